-- The role that Debezium logs in as; give it a password with ALTER ROLE or \password.
-- It may create its replication slot and read the outbox, nothing else.  The server must run with wal_level=logical.
CREATE ROLE waybill_connector LOGIN REPLICATION;
GRANT SELECT ON outbox_event TO waybill_connector;
DO $$
BEGIN
    EXECUTE format(
        'GRANT USAGE ON SCHEMA %s TO waybill_connector',
        (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'outbox_event'::regclass)
    );
END
$$;
