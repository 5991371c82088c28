-- Made by tools/build_schema.py from the migrations; not edited by hand.
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
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
CREATE INDEX calls_started_at ON calls (started_at_us);
