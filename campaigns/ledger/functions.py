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

# The answers as they are handed over: an array of objects, see `rows._as_json`, which leaves out what those
# of accepted mails have in common. To parse it all took as long as to write the half of it.
_CHANGES = """
(SELECT id, coalesce(status, 'sent') AS status, coalesce(reason, '') AS reason, provider_message_id,
        again_after, coalesce(attempts, 1) AS attempts, coalesce(doubts, 0) AS doubts
   FROM json_to_recordset(answers) AS answer(
        id bigint, status text, reason text, provider_message_id text, again_after float8,
        attempts int, doubts int)) AS change
"""

# Writes the answers of these deliveries, which left through this provider, in a step that holds the batch:
# of all of them or, where a row of theirs is not open, of none.
_WRITE_ANSWERS = f"""
CREATE OR REPLACE FUNCTION pg_temp.write_answers(
    the_batch bigint, through text, those bigint[], answers json
) RETURNS void LANGUAGE plpgsql SET enable_seqscan TO off AS $$
DECLARE
    written bigint;
BEGIN
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
     WHERE delivery.id = change.id AND change.id = ANY(those) AND delivery.batch_id + 0 = the_batch
       AND delivery.status IN ('pending', 'deferred');
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> cardinality(those) THEN
        RAISE EXCEPTION USING ERRCODE = '{LOST}',
            MESSAGE = format('%s of %s answers are awaited', written, cardinality(those));
    END IF;
END $$;
"""  # noqa: S608  # constants of this module

# Settles what left and has no answer, now that its lease ends: it is in doubt, so by policy. With `maximum`
# attempts at most it is tried again after so many seconds; with none it is not.
_CLOSE_LEAVING = """
CREATE OR REPLACE FUNCTION pg_temp.close_leaving(
    the_batch bigint, those bigint[], maximum int, again_after float8
) RETURNS void LANGUAGE sql AS $$
    UPDATE campaigns_deliverylog
       SET doubts = doubts + 1, attempts = attempts + 1, attempted_at = clock_timestamp(),
           provider = (SELECT leaving_through FROM campaigns_batch WHERE id = the_batch),
           status = CASE WHEN attempts + 1 < maximum THEN 'deferred' ELSE 'unconfirmed' END,
           not_before = CASE WHEN attempts + 1 < maximum
                             THEN clock_timestamp() + again_after * interval '1 second' END,
           reason = 'it was leaving when its worker stopped; no answer was recorded'
     WHERE id = ANY(those) AND batch_id = the_batch AND status IN ('pending', 'deferred');
$$;
"""

# Holds the batch for the rest of the transaction, writes the answers of `answered` as far as they are
# awaited, and returns what is leaving without one. If `strict`, all of them must be awaited.
_TAKE_ANSWERS = f"""
CREATE OR REPLACE FUNCTION pg_temp.take_answers(
    the_batch bigint, token bigint, answered bigint[], answers json, strict boolean
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    left_before bigint[];
    through text;
    awaited bigint[];
BEGIN
    SELECT leaving, leaving_through INTO left_before, through
      FROM campaigns_batch
     WHERE id = the_batch AND lease_token = token AND lease_until IS NOT NULL
       FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '{LOST}', MESSAGE = 'its lease ran out or was taken back';
    END IF;
    awaited := ARRAY(SELECT id FROM unnest(answered) AS id WHERE id = ANY(left_before));
    IF strict AND cardinality(awaited) <> cardinality(answered) THEN
        RAISE EXCEPTION USING ERRCODE = '{LOST}',
            MESSAGE = format('%s of %s answers are awaited', cardinality(awaited), cardinality(answered));
    ELSIF awaited <> '{{}}' THEN
        PERFORM pg_temp.write_answers(the_batch, through, awaited, answers);
    END IF;
    RETURN ARRAY(SELECT id FROM unnest(left_before) AS id WHERE id <> ALL(awaited));
END $$;
"""  # noqa: S608  # constants of this module

# See `ledger.record`.
_RECORD = f"""
CREATE OR REPLACE FUNCTION pg_temp.record_answers(
    the_batch bigint, token bigint, lease_seconds float8, answered bigint[], answers json, strict boolean
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    unanswered bigint[] := pg_temp.take_answers(the_batch, token, answered, answers, strict);
BEGIN
    UPDATE campaigns_batch
       SET {COUNTED}, recorded_at = clock_timestamp(), leaving = unanswered,
           lease_until = clock_timestamp() + lease_seconds * interval '1 second'
     WHERE id = the_batch;
END $$;
"""  # noqa: S608  # constants of this module

# See `ledger.release`; `maximum` and `again_after` are those of close_leaving.
_RELEASE = f"""
CREATE OR REPLACE FUNCTION pg_temp.release_batch(
    the_batch bigint, token bigint, answered bigint[], answers json,
    why text, is_failure boolean, wait float8, maximum int, again_after float8
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    unanswered bigint[] := pg_temp.take_answers(the_batch, token, answered, answers, false);
BEGIN
    IF unanswered <> '{{}}' THEN
        PERFORM pg_temp.close_leaving(the_batch, unanswered, maximum, again_after);
    END IF;
    UPDATE campaigns_batch
       SET {COUNTED},
           recorded_at = CASE WHEN leaving <> '{{}}' THEN clock_timestamp() ELSE recorded_at END,
           leaving = '{{}}', leaving_through = '',
           lease_until = NULL, lease_owner = '', published_at = NULL, trouble = why,
           failures = CASE WHEN is_failure THEN failures + 1 ELSE 0 END,
           not_before = CASE
               WHEN wait IS NOT NULL THEN clock_timestamp() + wait * interval '1 second'
               ELSE (SELECT nullif(min(coalesce(delivery.not_before, '-infinity')), '-infinity')
                       FROM campaigns_deliverylog AS delivery
                      WHERE delivery.batch_id = the_batch
                        AND delivery.status IN ('pending', 'deferred')) END
     WHERE id = the_batch;
END $$;
"""  # noqa: S608  # constants of this module

# Declares: see `ledger.declare`. Returns those of `ids` that are held back.
_DECLARE = f"""
CREATE OR REPLACE FUNCTION pg_temp.declare_leaving(
    the_batch bigint, token bigint, lease_seconds float8, ids bigint[], through text,
    answered bigint[], answers json
) RETURNS bigint[] LANGUAGE plpgsql SET enable_seqscan TO off AS $$
DECLARE
    left_before bigint[];
    left_through text;
    in_time boolean;
    the_campaign bigint;
    campaign_status text;
    open_rows bigint;
    held_back bigint[];
    going bigint[] := ids;
BEGIN
    SELECT leaving, leaving_through, lease_until > clock_timestamp(), campaign_id
      INTO left_before, left_through, in_time, the_campaign
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

    IF cardinality(answered) <> cardinality(left_before) THEN
        RAISE EXCEPTION USING ERRCODE = '{LOST}',
            MESSAGE = format('%s left before, and %s have an answer',
                             cardinality(left_before), cardinality(answered));
    ELSIF answered <> '{{}}' THEN
        PERFORM pg_temp.write_answers(the_batch, left_through, left_before, answers);
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
        going := ARRAY(SELECT id FROM unnest(ids) WITH ORDINALITY AS leaving(id, place)
                        WHERE id <> ALL(held_back) ORDER BY place);
    END IF;

    UPDATE campaigns_batch
       SET {COUNTED},
           recorded_at = CASE WHEN answered <> '{{}}' THEN clock_timestamp() ELSE recorded_at END,
           leaving = going, leaving_through = through,
           lease_until = clock_timestamp() + lease_seconds * interval '1 second'
     WHERE id = the_batch;
    RETURN held_back;
END $$;
"""  # noqa: S608  # constants of this module

_FUNCTIONS = (_WRITE_ANSWERS, _CLOSE_LEAVING, _TAKE_ANSWERS, _RECORD, _RELEASE, _DECLARE)

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
            for function in _FUNCTIONS:
                cursor.execute(function, prepare=False)
        if not connection.in_atomic_block:  # else they go with the transaction, should it be undone
            _equipped.add(raw)
    return raw
