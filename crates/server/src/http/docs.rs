//! The browsable reference at `/docs`: one page of ours and Swagger UI, embedded in the program.
//!
//! The page loads nothing from elsewhere and runs under a policy that allows nothing from elsewhere. All its links are
//! relative, so it works behind a path prefix. It shows `openapi.json`, which is served beside it. No key is needed.

use std::hash::{DefaultHasher, Hasher};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

/// Swagger UI sets `style` attributes, hence `unsafe-inline` for styles; its icons are `data:` images.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

static PAGE: Asset =
    Asset { media_type: "text/html; charset=utf-8", bytes: include_bytes!("../../assets/docs/index.html") };
static INIT: Asset = Asset { media_type: SCRIPT, bytes: include_bytes!("../../assets/docs/init.js") };
static STYLE: Asset =
    Asset { media_type: "text/css; charset=utf-8", bytes: include_bytes!("../../assets/swagger-ui/swagger-ui.css") };
static BUNDLE: Asset =
    Asset { media_type: SCRIPT, bytes: include_bytes!("../../assets/swagger-ui/swagger-ui-bundle.js") };

/// A file inside the program.
struct Asset {
    media_type: &'static str,
    bytes: &'static [u8],
}

/// The routes of the reference: `/docs` and the three files it loads. They belong outside of authentication.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .merge(route("/docs", &PAGE))
        // With the slash the relative links of the page would lead nowhere.
        .route("/docs/", get(async || Redirect::permanent("../docs")))
        .merge(route("/docs/init.js", &INIT))
        .merge(route("/docs/swagger-ui.css", &STYLE))
        .merge(route("/docs/swagger-ui-bundle.js", &BUNDLE))
}

fn route<S: Clone + Send + Sync + 'static>(path: &str, asset: &'static Asset) -> Router<S> {
    let tag = asset.tag();
    Router::new().route(path, get(async move |headers: HeaderMap| asset.answer(&tag, &headers)))
}

impl Asset {
    /// A hash of the content: another release of the program may bring another file under the same name.
    fn tag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.bytes);
        format!("\"{:016x}\"", hasher.finish())
    }

    /// The file, or 304 when the browser has it. `no-cache` means "ask before use", not "do not keep".
    fn answer(&self, tag: &str, request: &HeaderMap) -> Response {
        let headers: [(HeaderName, &str); 6] = [
            (header::CONTENT_TYPE, self.media_type),
            (header::ETAG, tag),
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        if is_known(tag, request) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, Body::from(self.bytes)).into_response()
    }
}

/// Whether `If-None-Match` names this tag. A proxy that compresses makes the tag weak (`W/"…"`).
fn is_known(tag: &str, request: &HeaderMap) -> bool {
    request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn get(path: &str, known: Option<&str>) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::get(path);
        if let Some(tag) = known {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let request = request.body(Body::empty()).unwrap();
        let (head, body) = routes::<()>().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_page_and_every_file_it_names_are_served() {
        let (_, _, page) = get("/docs", None).await;
        for (path, media_type) in [
            ("/docs", "text/html; charset=utf-8"),
            ("/docs/init.js", "text/javascript; charset=utf-8"),
            ("/docs/swagger-ui.css", "text/css; charset=utf-8"),
            ("/docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ] {
            let (status, headers, body) = get(path, None).await;
            assert_eq!((status, &headers[header::CONTENT_TYPE]), (StatusCode::OK, &media_type.parse().unwrap()));
            assert_eq!(headers[header::CONTENT_SECURITY_POLICY], CONTENT_SECURITY_POLICY);
            assert!(!body.is_empty(), "{path}");
            assert!(path == "/docs" || page.contains(&format!("=\"{}\"", &path[1..])), "{path} is not linked");
        }
    }

    #[tokio::test]
    async fn what_the_browser_has_is_not_sent_again() {
        let (_, headers, _) = get("/docs/init.js", None).await;
        let tag = headers[header::ETAG].to_str().unwrap();
        for known in [tag.to_owned(), format!("W/{tag}"), format!("\"other\", {tag}")] {
            let (status, headers, body) = get("/docs/init.js", Some(&known)).await;
            assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{known}");
            assert_eq!(headers[header::ETAG], tag);
        }
        assert_eq!(get("/docs/init.js", Some("\"other\"")).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_slash_at_the_end_leads_to_the_page() {
        let (status, headers, _) = get("/docs/", None).await;
        assert_eq!(
            (status, &headers[header::LOCATION]),
            (StatusCode::PERMANENT_REDIRECT, &"../docs".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn our_own_page_names_no_other_host() {
        for path in ["/docs", "/docs/init.js"] {
            let (_, _, body) = get(path, None).await;
            // The name space of an SVG image is a name, not an address.
            let body = body.replace("http://www.w3.org/2000/svg", "");
            assert!(!body.contains("://"), "{path}");
        }
    }
}
