-- Made by tools/build_schema.py from the migrations; not edited by hand.
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0009');
CREATE TABLE audit (
	seq INTEGER NOT NULL,
	at_us BIGINT NOT NULL,
	actor TEXT NOT NULL,
	action TEXT NOT NULL,
	object TEXT NOT NULL,
	changes TEXT NOT NULL,
	address TEXT NOT NULL,
	outcome TEXT NOT NULL,
	request_id TEXT NOT NULL,
	events BIGINT NOT NULL,
	previous BLOB NOT NULL,
	hash BLOB NOT NULL,
	PRIMARY KEY (seq)
);
CREATE TABLE belongings (
	provider TEXT NOT NULL,
	id TEXT NOT NULL,
	tenant TEXT NOT NULL,
	kind TEXT NOT NULL,
	noted_at_us BIGINT NOT NULL,
	PRIMARY KEY (provider, id)
)
 WITHOUT ROWID

;
CREATE TABLE books_state (
	id SMALLINT NOT NULL,
	revision BIGINT NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT books_state_is_one_row CHECK (id = 1)
);
INSERT INTO "books_state" VALUES(1,0);
CREATE TABLE calls (
	seq INTEGER NOT NULL,
	id TEXT NOT NULL,
	started_at_us BIGINT NOT NULL,
	door TEXT NOT NULL,
	tenant TEXT NOT NULL,
	project TEXT NOT NULL,
	"key" TEXT NOT NULL,
	requested_model TEXT NOT NULL,
	provider TEXT NOT NULL,
	model TEXT NOT NULL,
	streamed SMALLINT NOT NULL,
	lane TEXT NOT NULL,
	status SMALLINT NOT NULL,
	outcome TEXT NOT NULL,
	finish TEXT NOT NULL,
	input_tokens BIGINT,
	cache_read_tokens BIGINT,
	cache_write_tokens BIGINT,
	cache_write_1h_tokens BIGINT,
	output_tokens BIGINT,
	reasoning_tokens BIGINT,
	input_audio_tokens BIGINT,
	output_audio_tokens BIGINT,
	usage_source TEXT NOT NULL,
	cost_nano BIGINT,
	price_version TEXT NOT NULL,
	receipt TEXT NOT NULL,
	first_byte_us BIGINT,
	duration_us BIGINT NOT NULL,
	attempts SMALLINT NOT NULL,
	attempts_detail TEXT,
	PRIMARY KEY (seq),
	CONSTRAINT calls_id UNIQUE (id)
);
CREATE TABLE "counted_hours" (
	hour_us BIGINT NOT NULL,
	tenant TEXT NOT NULL,
	project TEXT NOT NULL,
	"key" TEXT NOT NULL,
	alias TEXT NOT NULL,
	provider TEXT NOT NULL,
	model TEXT NOT NULL,
	calls BIGINT NOT NULL,
	errors BIGINT NOT NULL,
	input_tokens BIGINT,
	cache_read_tokens BIGINT,
	cache_write_tokens BIGINT,
	cache_write_1h_tokens BIGINT,
	output_tokens BIGINT,
	reasoning_tokens BIGINT,
	input_audio_tokens BIGINT,
	output_audio_tokens BIGINT,
	cost_nano BIGINT NOT NULL,
	unknown_cost_calls BIGINT NOT NULL,
	PRIMARY KEY (hour_us, tenant, project, "key", alias, provider, model)
)
 WITHOUT ROWID

;
CREATE TABLE hours_state (
	id SMALLINT NOT NULL,
	counted_seq BIGINT NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT hours_state_is_one_row CHECK (id = 1)
);
INSERT INTO "hours_state" VALUES(1,0);
CREATE TABLE identity_state (
	id SMALLINT NOT NULL,
	epoch TEXT NOT NULL,
	revision BIGINT NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT identity_state_is_one_row CHECK (id = 1)
);
INSERT INTO "identity_state" VALUES(1,'',0);
CREATE TABLE keys (
	name TEXT NOT NULL,
	tenant TEXT NOT NULL,
	project TEXT NOT NULL,
	digest BLOB NOT NULL,
	former_digest BLOB,
	former_until_us BIGINT,
	expires_at_us BIGINT,
	revoked_at_us BIGINT,
	cut SMALLINT NOT NULL,
	terms TEXT NOT NULL,
	balance_nano BIGINT,
	created_at_us BIGINT NOT NULL,
	revision BIGINT NOT NULL,
	PRIMARY KEY (name),
	CONSTRAINT keys_digest UNIQUE (digest)
);
CREATE TABLE price_book_providers (
	version TEXT NOT NULL,
	provider TEXT NOT NULL,
	kind TEXT NOT NULL,
	PRIMARY KEY (version, provider, kind)
);
CREATE TABLE price_books (
	version TEXT NOT NULL,
	kept_at_us BIGINT NOT NULL,
	list_version TEXT NOT NULL,
	book BLOB,
	overrides TEXT NOT NULL,
	PRIMARY KEY (version)
);
CREATE TABLE projects (
	tenant TEXT NOT NULL,
	name TEXT NOT NULL,
	removed_at_us BIGINT,
	terms TEXT NOT NULL,
	balance_nano BIGINT,
	created_at_us BIGINT NOT NULL,
	revision BIGINT NOT NULL,
	PRIMARY KEY (tenant, name)
);
CREATE TABLE rerated_calls (
	seq BIGINT NOT NULL,
	rerate BIGINT NOT NULL,
	was_nano BIGINT,
	was_version TEXT NOT NULL,
	now_nano BIGINT NOT NULL,
	PRIMARY KEY (seq, rerate)
)
 WITHOUT ROWID

;
CREATE TABLE rerates (
	id INTEGER NOT NULL,
	began_at_us BIGINT NOT NULL,
	ended_at_us BIGINT,
	actor TEXT NOT NULL,
	asked TEXT NOT NULL,
	version TEXT NOT NULL,
	changed BIGINT NOT NULL,
	was_nano BIGINT NOT NULL,
	now_nano BIGINT NOT NULL,
	PRIMARY KEY (id)
);
CREATE TABLE response_items (
	tenant TEXT NOT NULL,
	id TEXT NOT NULL,
	response_id TEXT NOT NULL,
	PRIMARY KEY (tenant, id)
)
 WITHOUT ROWID

;
CREATE TABLE responses (
	tenant TEXT NOT NULL,
	id TEXT NOT NULL,
	previous_id TEXT,
	created_at_us BIGINT NOT NULL,
	size_bytes BIGINT NOT NULL,
	input BLOB NOT NULL,
	body BLOB NOT NULL,
	PRIMARY KEY (tenant, id)
);
CREATE TABLE signing_keys (
	kid TEXT NOT NULL,
	algorithm TEXT NOT NULL,
	public_key BLOB,
	created_at_us BIGINT NOT NULL,
	until_us BIGINT,
	revision BIGINT NOT NULL,
	PRIMARY KEY (kid)
);
CREATE TABLE subjects (
	name TEXT NOT NULL,
	tenant TEXT NOT NULL,
	project TEXT NOT NULL,
	expires_at_us BIGINT,
	revoked_at_us BIGINT,
	cut SMALLINT NOT NULL,
	terms TEXT NOT NULL,
	balance_nano BIGINT,
	created_at_us BIGINT NOT NULL,
	revision BIGINT NOT NULL,
	PRIMARY KEY (name)
);
CREATE TABLE tenants (
	name TEXT NOT NULL,
	removed_at_us BIGINT,
	terms TEXT NOT NULL,
	balance_nano BIGINT,
	created_at_us BIGINT NOT NULL,
	revision BIGINT NOT NULL,
	PRIMARY KEY (name)
);
CREATE TABLE tokens (
	jti TEXT NOT NULL,
	subject TEXT NOT NULL,
	tenant TEXT NOT NULL,
	project TEXT NOT NULL,
	kid TEXT NOT NULL,
	issued_at_us BIGINT NOT NULL,
	expires_at_us BIGINT,
	revoked_at_us BIGINT,
	cut SMALLINT NOT NULL,
	terms TEXT NOT NULL,
	actor TEXT NOT NULL,
	revision BIGINT NOT NULL,
	PRIMARY KEY (jti)
);
CREATE TABLE top_ups (
	seq INTEGER NOT NULL,
	kind TEXT NOT NULL,
	name TEXT NOT NULL,
	amount_nano BIGINT NOT NULL,
	at_us BIGINT NOT NULL,
	actor TEXT NOT NULL,
	note TEXT NOT NULL,
	PRIMARY KEY (seq)
);
CREATE INDEX calls_started_at ON calls (started_at_us);
CREATE INDEX keys_revision ON keys (revision, name);
CREATE INDEX tenants_revision ON tenants (revision);
CREATE INDEX projects_revision ON projects (revision);
CREATE INDEX subjects_revision ON subjects (revision);
CREATE INDEX keys_tenant ON keys (tenant, project);
CREATE INDEX top_ups_whose ON top_ups (kind, name);
CREATE INDEX audit_at ON audit (at_us);
CREATE TRIGGER audit_follows BEFORE INSERT ON audit WHEN NEW.seq <> coalesce((SELECT max(seq) FROM audit), 0) + 1 OR NEW.previous <> coalesce((SELECT hash FROM audit ORDER BY seq DESC LIMIT 1), zeroblob(32)) BEGIN SELECT RAISE(ABORT, 'an audit record must follow on the last one'); END;
CREATE TRIGGER audit_keeps_updated BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_keeps_deleted BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER calls_forgotten AFTER DELETE ON calls BEGIN DELETE FROM rerated_calls WHERE seq = old.seq; END;
CREATE INDEX tokens_revision ON tokens (revision);
CREATE INDEX tokens_subject ON tokens (subject, jti);
CREATE INDEX responses_age ON responses (created_at_us, size_bytes);
CREATE INDEX response_items_of ON response_items (tenant, response_id);
CREATE INDEX belongings_age ON belongings (tenant, noted_at_us);
CREATE VIEW spend_hours AS SELECT hour_us, tenant, project, "key", alias, provider, model, calls, errors, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, input_audio_tokens, output_audio_tokens, cost_nano, unknown_cost_calls FROM counted_hours UNION ALL SELECT CAST(started_at_us / 3600000000 * 3600000000 AS BIGINT) AS hour_us, CAST(tenant AS TEXT) AS tenant, CAST(project AS TEXT) AS project, CAST("key" AS TEXT) AS "key", CAST(CASE WHEN requested_model = provider || '/' || model THEN '' ELSE requested_model END AS TEXT) AS alias, CAST(provider AS TEXT) AS provider, CAST(CASE WHEN outcome = 'provider_refused' AND input_tokens IS NULL AND requested_model = provider || '/' || model THEN '' ELSE model END AS TEXT) AS model, CAST(1 AS BIGINT) AS calls, CAST(CASE WHEN outcome = 'ok' THEN 0 ELSE 1 END AS BIGINT) AS errors, CAST(CASE WHEN input_tokens > 10000000000 THEN 10000000000 ELSE input_tokens END AS BIGINT) AS input_tokens, CAST(CASE WHEN cache_read_tokens > 10000000000 THEN 10000000000 ELSE cache_read_tokens END AS BIGINT) AS cache_read_tokens, CAST(CASE WHEN cache_write_tokens > 10000000000 THEN 10000000000 ELSE cache_write_tokens END AS BIGINT) AS cache_write_tokens, CAST(CASE WHEN cache_write_1h_tokens > 10000000000 THEN 10000000000 ELSE cache_write_1h_tokens END AS BIGINT) AS cache_write_1h_tokens, CAST(CASE WHEN output_tokens > 10000000000 THEN 10000000000 ELSE output_tokens END AS BIGINT) AS output_tokens, CAST(CASE WHEN reasoning_tokens > 10000000000 THEN 10000000000 ELSE reasoning_tokens END AS BIGINT) AS reasoning_tokens, CAST(CASE WHEN input_audio_tokens > 10000000000 THEN 10000000000 ELSE input_audio_tokens END AS BIGINT) AS input_audio_tokens, CAST(CASE WHEN output_audio_tokens > 10000000000 THEN 10000000000 ELSE output_audio_tokens END AS BIGINT) AS output_audio_tokens, CAST(CASE WHEN coalesce(cost_nano, 0) > 1000000000000000 THEN 1000000000000000 ELSE coalesce(cost_nano, 0) END AS BIGINT) AS cost_nano, CAST(CASE WHEN cost_nano IS NULL THEN 1 ELSE 0 END AS BIGINT) AS unknown_cost_calls FROM calls WHERE seq > (SELECT counted_seq FROM hours_state);
CREATE TRIGGER hours_counted AFTER UPDATE OF counted_seq ON hours_state WHEN new.counted_seq > old.counted_seq BEGIN INSERT INTO counted_hours (hour_us, tenant, project, "key", alias, provider, model, calls, errors, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, input_audio_tokens, output_audio_tokens, cost_nano, unknown_cost_calls) SELECT started_at_us / 3600000000 * 3600000000, tenant, project, "key", CASE WHEN requested_model = provider || '/' || model THEN '' ELSE requested_model END, provider, CASE WHEN outcome = 'provider_refused' AND input_tokens IS NULL AND requested_model = provider || '/' || model THEN '' ELSE model END, sum(1), sum(CASE WHEN outcome = 'ok' THEN 0 ELSE 1 END), sum(CASE WHEN input_tokens > 10000000000 THEN 10000000000 ELSE input_tokens END), sum(CASE WHEN cache_read_tokens > 10000000000 THEN 10000000000 ELSE cache_read_tokens END), sum(CASE WHEN cache_write_tokens > 10000000000 THEN 10000000000 ELSE cache_write_tokens END), sum(CASE WHEN cache_write_1h_tokens > 10000000000 THEN 10000000000 ELSE cache_write_1h_tokens END), sum(CASE WHEN output_tokens > 10000000000 THEN 10000000000 ELSE output_tokens END), sum(CASE WHEN reasoning_tokens > 10000000000 THEN 10000000000 ELSE reasoning_tokens END), sum(CASE WHEN input_audio_tokens > 10000000000 THEN 10000000000 ELSE input_audio_tokens END), sum(CASE WHEN output_audio_tokens > 10000000000 THEN 10000000000 ELSE output_audio_tokens END), sum(CASE WHEN coalesce(cost_nano, 0) > 1000000000000000 THEN 1000000000000000 ELSE coalesce(cost_nano, 0) END), sum(CASE WHEN cost_nano IS NULL THEN 1 ELSE 0 END) FROM calls WHERE seq > old.counted_seq AND seq <= new.counted_seq GROUP BY json_array(started_at_us / 3600000000, tenant, project, "key", requested_model, provider, model, outcome, input_tokens IS NULL) ON CONFLICT (hour_us, tenant, project, "key", alias, provider, model) DO UPDATE SET calls = calls + excluded.calls, errors = errors + excluded.errors, input_tokens = coalesce(input_tokens + excluded.input_tokens, input_tokens, excluded.input_tokens), cache_read_tokens = coalesce(cache_read_tokens + excluded.cache_read_tokens, cache_read_tokens, excluded.cache_read_tokens), cache_write_tokens = coalesce(cache_write_tokens + excluded.cache_write_tokens, cache_write_tokens, excluded.cache_write_tokens), cache_write_1h_tokens = coalesce(cache_write_1h_tokens + excluded.cache_write_1h_tokens, cache_write_1h_tokens, excluded.cache_write_1h_tokens), output_tokens = coalesce(output_tokens + excluded.output_tokens, output_tokens, excluded.output_tokens), reasoning_tokens = coalesce(reasoning_tokens + excluded.reasoning_tokens, reasoning_tokens, excluded.reasoning_tokens), input_audio_tokens = coalesce(input_audio_tokens + excluded.input_audio_tokens, input_audio_tokens, excluded.input_audio_tokens), output_audio_tokens = coalesce(output_audio_tokens + excluded.output_audio_tokens, output_audio_tokens, excluded.output_audio_tokens), cost_nano = cost_nano + excluded.cost_nano, unknown_cost_calls = unknown_cost_calls + excluded.unknown_cost_calls; END;
CREATE TRIGGER calls_counted BEFORE DELETE ON calls WHEN old.seq > (SELECT counted_seq FROM hours_state) BEGIN UPDATE hours_state SET counted_seq = (SELECT max(seq) FROM calls); END;
CREATE TRIGGER calls_renumbered AFTER DELETE ON calls WHEN old.seq = (SELECT counted_seq FROM hours_state) BEGIN UPDATE hours_state SET counted_seq = (SELECT coalesce(max(seq), 0) FROM calls); END;
CREATE TRIGGER calls_repriced AFTER UPDATE OF cost_nano ON calls WHEN old.cost_nano IS NOT new.cost_nano AND new.seq <= (SELECT counted_seq FROM hours_state) BEGIN UPDATE counted_hours SET cost_nano = cost_nano - CASE WHEN coalesce(old.cost_nano, 0) > 1000000000000000 THEN 1000000000000000 ELSE coalesce(old.cost_nano, 0) END + CASE WHEN coalesce(new.cost_nano, 0) > 1000000000000000 THEN 1000000000000000 ELSE coalesce(new.cost_nano, 0) END, unknown_cost_calls = unknown_cost_calls - CASE WHEN old.cost_nano IS NULL THEN 1 ELSE 0 END + CASE WHEN new.cost_nano IS NULL THEN 1 ELSE 0 END WHERE hour_us = new.started_at_us / 3600000000 * 3600000000 AND tenant = new.tenant AND project = new.project AND "key" = new."key" AND alias = CASE WHEN new.requested_model = new.provider || '/' || new.model THEN '' ELSE new.requested_model END AND provider = new.provider AND model = CASE WHEN new.outcome = 'provider_refused' AND new.input_tokens IS NULL AND new.requested_model = new.provider || '/' || new.model THEN '' ELSE new.model END; END;
