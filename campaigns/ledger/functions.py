"""What a step has PostgreSQL do in one round trip: functions of the session, made once per connection.

They live beside the code that calls them, and end with the connection: nothing of them is left in the
database, so workers of two versions do not get in each other's way.
"""

from weakref import WeakSet

import psycopg
from django.db import connection

# SQLSTATEs of our own, by which a step is refused and undone
LOST = "MLOST"
HELD = "MHELD"

# Of a delivery that left without a recorded answer, and nobody has decided about that since: it may have
# arrived, so it must not end as one that has not.
IN_DOUBT = """
(delivery.doubts > 0 AND delivery.doubts > (
    SELECT count(*) FROM campaigns_settlement AS settlement
     WHERE settlement.delivery_id = delivery.id AND settlement.decision = 'send_again'))
"""

# What a batch's counters are, as its rows have it; a CHECK holds that they add up to its size.
COUNTED = """
(pending, deferred, sent, failed, suppressed, unconfirmed, cancelled) = (
    SELECT count(*) FILTER (WHERE status = 'pending'),
           count(*) FILTER (WHERE status = 'deferred'),
           count(*) FILTER (WHERE status = 'sent'),
           count(*) FILTER (WHERE status = 'failed'),
           count(*) FILTER (WHERE status = 'suppressed'),
           count(*) FILTER (WHERE status = 'unconfirmed'),
           count(*) FILTER (WHERE status = 'cancelled')
      FROM campaigns_deliverylog WHERE batch_id = campaigns_batch.id)
"""

# The answers as they are handed over: an array of objects, see `rows._as_json`.
_CHANGES = """
json_to_recordset(answers) AS change(
    id bigint, status text, reason text, provider_message_id text, again_after float8,
    attempts int, doubts int)
"""

# Writes the answers, all of them or none, in a step that holds the batch; each of them must be `awaited`.
_WRITE_ANSWERS = f"""
CREATE OR REPLACE FUNCTION pg_temp.write_answers(
    the_batch bigint, awaited bigint[], answers json
) RETURNS void LANGUAGE plpgsql SET enable_seqscan TO off AS $$
DECLARE
    written bigint;
    through text;
BEGIN
    SELECT leaving_through INTO through FROM campaigns_batch WHERE id = the_batch;
    UPDATE campaigns_deliverylog AS delivery
       SET status = CASE WHEN change.status IN ('failed', 'suppressed', 'cancelled') AND {IN_DOUBT}
                         THEN 'unconfirmed' ELSE change.status END,
           reason = change.reason,
           not_before = clock_timestamp() + change.again_after * interval '1 second',
           provider_message_id = change.provider_message_id,
           attempts = delivery.attempts + change.attempts, doubts = delivery.doubts + change.doubts,
           provider = CASE WHEN change.attempts > 0 THEN through ELSE delivery.provider END,
           attempted_at = CASE WHEN change.attempts > 0 THEN clock_timestamp()
                               ELSE delivery.attempted_at END,
           sent_at = CASE WHEN change.status = 'sent' THEN clock_timestamp() END
      FROM {_CHANGES}
     WHERE delivery.id = change.id AND change.id = ANY(awaited) AND delivery.batch_id + 0 = the_batch
       AND delivery.status IN ('pending', 'deferred');
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> json_array_length(answers) THEN
        RAISE EXCEPTION USING ERRCODE = '{LOST}',
            MESSAGE = format('%s of %s answers are awaited', written, json_array_length(answers));
    END IF;
END $$;
"""  # noqa: S608  # constants of this module

# Declares: see `ledger.declare`. Returns those of `ids` that are held back.
_DECLARE = f"""
CREATE OR REPLACE FUNCTION pg_temp.declare_leaving(
    the_batch bigint, token bigint, lease_seconds float8, ids bigint[], through text, answers json
) RETURNS bigint[] LANGUAGE plpgsql SET enable_seqscan TO off AS $$
DECLARE
    left_before bigint[];
    in_time boolean;
    the_campaign bigint;
    campaign_status text;
    answered bigint := json_array_length(answers);
    open_rows bigint;
    held_back bigint[];
BEGIN
    SELECT leaving, lease_until > clock_timestamp(), campaign_id INTO left_before, in_time, the_campaign
      FROM campaigns_batch
     WHERE id = the_batch AND lease_token = token AND lease_until IS NOT NULL
       FOR UPDATE;
    -- by a statement of its own, which sees what was committed while this one waited for the lock
    SELECT status INTO campaign_status FROM campaigns_campaign WHERE id = the_campaign;
    IF campaign_status <> 'in_progress' THEN
        RAISE EXCEPTION USING ERRCODE = '{HELD}', MESSAGE = 'the campaign is ' || campaign_status;
    ELSIF in_time IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = '{LOST}', MESSAGE = 'its lease ran out or was taken back';
    END IF;

    IF answered <> cardinality(left_before) THEN
        RAISE EXCEPTION USING ERRCODE = '{LOST}',
            MESSAGE = format('%s left before, and %s have an answer', cardinality(left_before), answered);
    ELSIF answered > 0 THEN
        PERFORM pg_temp.write_answers(the_batch, left_before, answers);
    END IF;

    SELECT count(*),
           coalesce(array_agg(delivery.id) FILTER (WHERE suppression.email IS NOT NULL
                                                      OR delivery.recipient_id IS NULL), '{{}}')
      INTO open_rows, held_back
      FROM campaigns_deliverylog AS delivery
      LEFT JOIN campaigns_suppression AS suppression ON suppression.email = lower(delivery.email)
     WHERE delivery.id = ANY(ids) AND delivery.batch_id + 0 = the_batch
       AND delivery.status IN ('pending', 'deferred');
    IF open_rows <> cardinality(ids) THEN
        RAISE EXCEPTION USING ERRCODE = '{LOST}',
            MESSAGE = format('%s of %s rows are as it read them', open_rows, cardinality(ids));
    END IF;
    IF held_back <> '{{}}' THEN
        UPDATE campaigns_deliverylog AS delivery
           SET status = CASE WHEN {IN_DOUBT} THEN 'unconfirmed'
                             WHEN suppression.email IS NULL THEN 'cancelled' ELSE 'suppressed' END,
               reason = coalesce('the address is suppressed: ' || suppression.reason,
                                 'the recipient was deleted'),
               not_before = NULL
          FROM campaigns_deliverylog AS asked
          LEFT JOIN campaigns_suppression AS suppression ON suppression.email = lower(asked.email)
         WHERE asked.id = ANY(held_back) AND delivery.id = asked.id;
    END IF;

    UPDATE campaigns_batch
       SET {COUNTED},
           recorded_at = CASE WHEN answered > 0 THEN clock_timestamp() ELSE recorded_at END,
           leaving = ARRAY(SELECT id FROM unnest(ids) WITH ORDINALITY AS leaving(id, place)
                            WHERE id <> ALL(held_back) ORDER BY place),
           leaving_through = through,
           lease_until = clock_timestamp() + lease_seconds * interval '1 second'
     WHERE id = the_batch;
    RETURN held_back;
END $$;
"""  # noqa: S608  # constants of this module

_equipped: WeakSet[psycopg.Connection] = WeakSet()


def equipped() -> psycopg.Connection:
    """Return the thread's connection to PostgreSQL, which has the functions and prepares its statements.

    Planning them costs more than running them, and Django's own cursors cannot prepare them.
    """
    connection.close_if_health_check_failed()  # as Django's own cursors do
    connection.ensure_connection()
    raw: psycopg.Connection = connection.connection
    if raw not in _equipped:
        raw.prepare_threshold = 0
        with connection.wrap_database_errors, psycopg.Cursor(raw) as cursor:
            for function in (_WRITE_ANSWERS, _DECLARE):
                cursor.execute(function, prepare=False)
        if not connection.in_atomic_block:  # else they go with the transaction, should it be undone
            _equipped.add(raw)
    return raw
