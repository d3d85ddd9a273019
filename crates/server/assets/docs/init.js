// Starts Swagger UI on the document that lies beside this page.
"use strict";

(async () => {
  const reference = document.getElementById("reference");
  try {
    const address = new URL("openapi.json", location.href);
    const response = await fetch(address);
    if (!response.ok) throw new Error(`openapi.json: status ${response.status}`);
    const spec = await response.json();
    // The document says "/", which is wrong behind a path prefix. This page knows where it is.
    spec.servers = [{ url: new URL(".", address).href.replace(/\/$/, "") }];
    reference.textContent = "";
    SwaggerUIBundle({
      spec,
      domNode: reference,
      validatorUrl: null,
      deepLinking: true,
      docExpansion: "list",
      defaultModelsExpandDepth: 0,
      defaultModelRendering: "example",
    });
  } catch (error) {
    reference.textContent = "";
    const message = document.createElement("p");
    message.textContent = `The reference cannot be shown. ${error.message}`;
    reference.append(message);
  }
})();
