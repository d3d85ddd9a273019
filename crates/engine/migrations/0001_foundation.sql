-- The foundation: organizations and their keys, what every write leaves behind, customers and what they refer to.
-- Column words: see `store::migrate`. A table marked CLUSTERED is stored in the order of its primary key.

-- How many rows a list has, counted with the writes themselves, in stripes (see `Transaction::tally`).
CREATE TABLE tallies (
    scope ID NOT NULL,
    noun TEXT NOT NULL,
    stripe COUNT NOT NULL,
    counted COUNT NOT NULL,
    PRIMARY KEY (scope, noun, stripe)
) CLUSTERED;

CREATE TABLE organizations (
    id ID NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    kind TEXT NOT NULL CONSTRAINT organizations_kind CHECK (kind IN ('live', 'sandbox')),
    default_currency TEXT NOT NULL,
    timezone TEXT NOT NULL,
    -- The moment of a sandbox; null in a live organization, whose moment is the wall clock's.
    test_clock INSTANT,
    created_at INSTANT NOT NULL,
    CONSTRAINT organizations_test_clock CHECK ((kind = 'sandbox') = (test_clock IS NOT NULL))
);

CREATE TABLE api_keys (
    id ID NOT NULL PRIMARY KEY,
    organization_id ID NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    scope TEXT NOT NULL CONSTRAINT api_keys_scope CHECK (scope IN ('full', 'read')),
    secret_hash BYTES NOT NULL,
    created_at INSTANT NOT NULL,
    revoked_at INSTANT
);
CREATE INDEX api_keys_by_organization ON api_keys (organization_id, id);

-- Who did what and when. Rows are only ever added; seals make a change of them show.
CREATE TABLE audit_entries (
    lane COUNT NOT NULL,
    position COUNT NOT NULL,
    organization_id ID NOT NULL,
    key_id ID NOT NULL,
    operation TEXT NOT NULL,
    object_id ID NOT NULL,
    properties TEXT NOT NULL,
    request_id TEXT NOT NULL,
    at INSTANT NOT NULL,
    PRIMARY KEY (lane, position)
) CLUSTERED;

CREATE TABLE audit_seals (
    number COUNT NOT NULL PRIMARY KEY,
    lane COUNT NOT NULL,
    first_position COUNT NOT NULL,
    last_position COUNT NOT NULL,
    entries COUNT NOT NULL,
    previous_hash BYTES NOT NULL,
    hash BYTES NOT NULL,
    sealed_at INSTANT NOT NULL
);
CREATE UNIQUE INDEX audit_seals_by_lane ON audit_seals (lane, last_position);

-- The stored answers of writes that came with an Idempotency-Key (contract, idempotency).
CREATE TABLE idempotency_keys (
    organization_id ID NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint BYTES NOT NULL,
    status COUNT NOT NULL,
    body BYTES NOT NULL,
    expires_at INSTANT NOT NULL,
    PRIMARY KEY (organization_id, idempotency_key)
);
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

CREATE TABLE tags (
    organization_id ID NOT NULL REFERENCES organizations (id),
    id ID NOT NULL,
    name TEXT NOT NULL,
    color TEXT NOT NULL,
    entity_types JSON NOT NULL,
    created_at INSTANT NOT NULL,
    updated_at INSTANT NOT NULL,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX tags_by_name ON tags (organization_id, name, id);

CREATE TABLE integrations (
    organization_id ID NOT NULL REFERENCES organizations (id),
    id ID NOT NULL,
    provider TEXT NOT NULL,
    description TEXT,
    created_at INSTANT NOT NULL,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX integrations_by_provider ON integrations (organization_id, provider, id);

-- Lists inside a customer are stored with it, as they are answered; the tables below find customers by them.
CREATE TABLE customers (
    organization_id ID NOT NULL,
    id ID NOT NULL,
    name TEXT NOT NULL,
    currency TEXT NOT NULL,
    aliases JSON NOT NULL,
    billing_address JSON,
    contacts JSON NOT NULL,
    tag_ids JSON NOT NULL,
    csm_id TEXT,
    sales_owner_id TEXT,
    parent_customer_id ID,
    metadata JSON,
    tax_country TEXT,
    tax_id TEXT,
    tax_rate DECIMAL,
    tax_reason TEXT,
    tax_status TEXT,
    tax_type TEXT,
    created_at INSTANT NOT NULL,
    updated_at INSTANT NOT NULL,
    PRIMARY KEY (organization_id, id),
    CONSTRAINT customers_parent FOREIGN KEY (organization_id, parent_customer_id) REFERENCES customers (organization_id, id)
);
CREATE INDEX customers_by_name ON customers (organization_id, name, id);
CREATE INDEX customers_by_csm ON customers (organization_id, csm_id, id) WHERE csm_id IS NOT NULL;
CREATE INDEX customers_by_sales_owner ON customers (organization_id, sales_owner_id, id) WHERE sales_owner_id IS NOT NULL;
CREATE INDEX customers_by_parent ON customers (organization_id, parent_customer_id) WHERE parent_customer_id IS NOT NULL;

-- Every alias, and every external id that is linked at least once, in NFC. One row for a name: an alias belongs to one
-- customer and is no external id (D-021).
CREATE TABLE customer_identifiers (
    organization_id ID NOT NULL,
    identifier TEXT NOT NULL,
    -- Null for an external id: `connected_accounts` says whose it is.
    customer_id ID,
    PRIMARY KEY (organization_id, identifier)
) CLUSTERED;

CREATE TABLE customer_emails (
    organization_id ID NOT NULL,
    email TEXT NOT NULL,
    customer_id ID NOT NULL,
    PRIMARY KEY (organization_id, email, customer_id)
) CLUSTERED;

CREATE TABLE customer_tags (
    organization_id ID NOT NULL,
    tag_id ID NOT NULL,
    customer_id ID NOT NULL,
    PRIMARY KEY (organization_id, tag_id, customer_id),
    FOREIGN KEY (organization_id, tag_id) REFERENCES tags (organization_id, id)
) CLUSTERED;

CREATE TABLE connected_accounts (
    organization_id ID NOT NULL,
    id ID NOT NULL,
    customer_id ID NOT NULL,
    integration_id ID NOT NULL,
    external_id TEXT NOT NULL,
    -- The external id in NFC, by which it is compared.
    external_key TEXT NOT NULL,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, customer_id) REFERENCES customers (organization_id, id),
    FOREIGN KEY (organization_id, integration_id) REFERENCES integrations (organization_id, id)
);
CREATE UNIQUE INDEX connected_accounts_external ON connected_accounts (organization_id, integration_id, external_key);
CREATE INDEX connected_accounts_by_key ON connected_accounts (organization_id, external_key);
CREATE INDEX connected_accounts_by_customer ON connected_accounts (organization_id, customer_id, id);

CREATE TABLE subscriptions (
    organization_id ID NOT NULL,
    id ID NOT NULL,
    customer_id ID NOT NULL,
    status TEXT NOT NULL CONSTRAINT subscriptions_status CHECK (status IN ('draft', 'active', 'canceled')),
    created_at INSTANT NOT NULL,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, customer_id) REFERENCES customers (organization_id, id)
);
CREATE INDEX subscriptions_by_customer ON subscriptions (organization_id, customer_id, status);

CREATE TABLE entitlements (
    organization_id ID NOT NULL,
    id ID NOT NULL,
    subscription_id ID NOT NULL,
    version_id ID NOT NULL,
    key TEXT NOT NULL,
    type TEXT NOT NULL CONSTRAINT entitlements_type CHECK (type IN ('boolean', 'number', 'string', 'credit_allocation')),
    mode TEXT NOT NULL CONSTRAINT entitlements_mode CHECK (mode IN ('static', 'grant_based')),
    value TEXT,
    allocation JSON,
    timing JSON,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, subscription_id) REFERENCES subscriptions (organization_id, id)
);
CREATE UNIQUE INDEX entitlements_key ON entitlements (organization_id, subscription_id, version_id, key);

CREATE TABLE payment_methods (
    organization_id ID NOT NULL,
    id ID NOT NULL,
    customer_id ID NOT NULL,
    provider TEXT NOT NULL,
    type TEXT NOT NULL CONSTRAINT payment_methods_type CHECK (type IN ('payment_card', 'bank_transfer')),
    details JSON NOT NULL,
    is_default FLAG NOT NULL,
    is_active FLAG NOT NULL,
    created_at INSTANT NOT NULL,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, customer_id) REFERENCES customers (organization_id, id)
);
CREATE INDEX payment_methods_by_customer ON payment_methods (organization_id, customer_id, id);
CREATE UNIQUE INDEX payment_methods_default ON payment_methods (organization_id, customer_id) WHERE is_default;
