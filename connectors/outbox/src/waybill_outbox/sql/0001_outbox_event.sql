-- The outbox: events wait here, in the database of the data, until Debezium has carried them to Kafka.
-- PostgreSQL 14 or newer.
--
-- The connector tolerates no error, since tolerating one would lose an event: one row that Kafka or the connector
-- refuses would stop all later ones.  So every such row is refused here, by a CHECK, where its writer sees why.
-- (Patterns count nothing: {32} in one costs more than all the rest of the insert.)

DO $$
BEGIN
    IF current_setting('server_encoding') = 'SQL_ASCII' THEN
        RAISE 'the database % has the encoding SQL_ASCII, which lets text in that is none: the outbox needs UTF8',
            current_database();
    END IF;
END
$$;

-- UUIDv7: sorts by the time it was made, so the index grows at its end.
CREATE FUNCTION outbox_uuid7() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN (
    lpad(to_hex(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
    || '7'
    || substr(replace(gen_random_uuid()::text, '-', ''), 14)
)::uuid;

-- The service that writes, if it does not say so itself: ALTER ROLE shop SET waybill.source = 'shop';
CREATE FUNCTION outbox_source() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(nullif(current_setting('waybill.source', true), ''), current_database()::text);

CREATE TABLE outbox_event (
    id uuid PRIMARY KEY DEFAULT outbox_uuid7(),
    -- Lower snake case: no topic of Kafka or Connect themselves (they hold "_" in front or "-"), and no ".", for Kafka
    -- refuses to create a topic that differs from another only in "." and "_".
    topic text COLLATE "C" NOT NULL
        CONSTRAINT outbox_event_topic_is_lower_snake_case CHECK (topic ~ '^[a-z][a-z0-9_]*$' AND length(topic) <= 200)
        CONSTRAINT outbox_event_topic_is_not_reserved CHECK (topic !~ '^waybill_'),
    -- An event without a key of its own has its id here: a NULL would make the router invent one.
    key text COLLATE "C" NOT NULL
        CONSTRAINT outbox_event_key_has_1_to_1024_bytes CHECK (octet_length(key) BETWEEN 1 AND 1024),
    type text COLLATE "C" NOT NULL
        CONSTRAINT outbox_event_type_is_a_message_name
        CHECK (type ~ '^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*$' AND length(type) <= 255),
    -- An empty message is an empty payload; a NULL would become a tombstone.
    payload bytea NOT NULL
        CONSTRAINT outbox_event_payload_has_at_most_4_mib CHECK (octet_length(payload) <= 4194304),
    -- Headers travel on as gRPC metadata, which is printable ASCII.
    source text COLLATE "C" NOT NULL DEFAULT outbox_source()
        CONSTRAINT outbox_event_source_is_printable_ascii CHECK (source ~ '^[!-~]+$' AND length(source) <= 255),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
        CONSTRAINT outbox_event_created_at_is_a_date_of_four_digits
        CHECK (created_at >= '1970-01-01 00:00:00+00' AND created_at < '9999-12-31 00:00:00+00'),
    traceparent text COLLATE "C"
        CONSTRAINT outbox_event_traceparent_is_w3c
        CHECK (
            traceparent LIKE '__-________________________________-________________-__'
            AND traceparent ~ '^[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+$'
        ),
    tracestate text COLLATE "C"
        CONSTRAINT outbox_event_tracestate_is_printable_ascii
        CHECK (tracestate ~ '^[ -~]+$' AND length(tracestate) <= 512),
    -- A column because Connect cannot write the constant "1.0" into a header: it would become "1".
    specversion text COLLATE "C" NOT NULL DEFAULT '1.0'
        CONSTRAINT outbox_event_specversion_is_1_0 CHECK (specversion = '1.0')
);

COMMENT ON TABLE outbox_event IS 'Events on their way to Kafka. Append-only: a row is one event, for ever as it was saved.';

CREATE FUNCTION outbox_event_refuse_update() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE 'outbox_event is append-only: an event that was saved may have arrived already; save another one';
END
$$;

CREATE TRIGGER outbox_event_refuse_update BEFORE UPDATE ON outbox_event
FOR EACH STATEMENT EXECUTE FUNCTION outbox_event_refuse_update();

-- One event from any language, in the transaction that calls it; returns its id.  No key (NULL or '') spreads evenly.
CREATE FUNCTION outbox_save(topic text, key text, type text, payload bytea) RETURNS uuid
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    INSERT INTO outbox_event (id, topic, key, type, payload)
    SELECT new.id, $1, coalesce(nullif($2, ''), new.id::text), $3, $4
    FROM (SELECT outbox_uuid7() AS id) AS new
    RETURNING id;
END;

-- Inserts alone: pruning old rows (DELETE, TRUNCATE) is invisible to the connector.
CREATE PUBLICATION outbox_pub FOR TABLE outbox_event WITH (publish = 'insert');
