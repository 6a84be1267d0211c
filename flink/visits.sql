-- Unique visitors for each minute, hour, day, ISO week, month and year: the records of uniqdb, made by Apache Flink.
--
-- A template: $brokers and the like are filled in by run.py (`run.py --print` shows the outcome). What it cannot do
-- that uniqdb does stands in README.md.

SET 'table.local-time-zone' = '$timezone';
-- Without mini-batches every visit would publish six records.
SET 'table.exec.mini-batch.enabled' = 'true';
SET 'table.exec.mini-batch.allow-latency' = '1 s';
SET 'table.exec.mini-batch.size' = '20000';
-- The program waits until the job has ended.
SET 'table.dml-sync' = 'true';
SET 'pipeline.name' = 'uniqdb';
SET 'pipeline.object-reuse' = 'true';
-- For ever: a shorter time forgets who came, and late visits then begin their buckets anew.
SET 'table.exec.state.ttl' = '$state_ttl';

CREATE TEMPORARY TABLE visits (
  ts BIGINT,
  uid STRING,
  arrived_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL
) WITH (
  'connector' = 'kafka',
  'topic' = '$input_topic',
  'properties.bootstrap.servers' = '$brokers',
  'properties.group.id' = 'uniqdb-flink',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = '$bounded_mode',
  'format' = 'json',
  -- A record that is no JSON is left out, a field of another type is NULL.
  'json.ignore-parse-errors' = 'true'
);

-- The key is a line of CSV with | between its two columns: `minute|UTC` and `1468244340`.
CREATE TEMPORARY TABLE counts (
  topic STRING METADATA,
  key_bucket STRING,
  key_start BIGINT,
  granularity STRING,
  `datetime` STRING,
  `count` BIGINT,
  visits BIGINT,
  start_ts BIGINT,
  end_ts BIGINT,
  timezone STRING,
  status STRING,
  complete BOOLEAN,
  revision BIGINT,
  epoch BIGINT,
  PRIMARY KEY (key_bucket, key_start) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = '$output_topics',
  'properties.bootstrap.servers' = '$brokers',
  'properties.compression.type' = 'lz4',
  'key.format' = 'csv',
  'key.csv.field-delimiter' = '|',
  'key.csv.disable-quote-character' = 'true',
  'key.fields-prefix' = 'key_',
  'value.format' = 'json',
  'value.fields-include' = 'EXCEPT_KEY'
);

-- 946684800 is the beginning of the year 2000. Counted from there, TIMESTAMPDIFF does not overflow until 2068.
CREATE TEMPORARY VIEW plausible AS
SELECT ts, uid, CAST(TO_TIMESTAMP_LTZ(ts, 0) AS TIMESTAMP(0)) AS local_time
FROM visits
WHERE ts >= 946684800
  AND ts - 946684800 <= TIMESTAMPDIFF(SECOND, TO_TIMESTAMP_LTZ(946684800, 0), arrived_at) + $ahead_limit_s
  AND CHAR_LENGTH(uid) BETWEEN 1 AND 1024;

-- Minutes and hours are cut in UTC seconds: 02:30 comes twice when clocks go back, and is two hours then. For the rest
-- the local date is cut, which only a TIMESTAMP without a zone allows, and its first instant is taken.
CREATE TEMPORARY VIEW starts AS
SELECT
  uid,
  ts - MOD(ts, 60) AS minute_start,
  ts - MOD(ts, 60) - 60 * EXTRACT(MINUTE FROM local_time) AS hour_start,
  946684800 + TIMESTAMPDIFF(SECOND, TO_TIMESTAMP_LTZ(946684800, 0),
    CAST(FLOOR(local_time TO DAY) AS TIMESTAMP_LTZ(0))) AS day_start,
  -- Flink's weeks begin on Sunday.
  946684800 + TIMESTAMPDIFF(SECOND, TO_TIMESTAMP_LTZ(946684800, 0),
    CAST(FLOOR(local_time - INTERVAL '1' DAY TO WEEK) + INTERVAL '1' DAY AS TIMESTAMP_LTZ(0))) AS week_start,
  946684800 + TIMESTAMPDIFF(SECOND, TO_TIMESTAMP_LTZ(946684800, 0),
    CAST(FLOOR(local_time TO MONTH) AS TIMESTAMP_LTZ(0))) AS month_start,
  946684800 + TIMESTAMPDIFF(SECOND, TO_TIMESTAMP_LTZ(946684800, 0),
    CAST(FLOOR(local_time TO YEAR) AS TIMESTAMP_LTZ(0))) AS year_start
FROM plausible;

-- No TUMBLE windows: they drop what comes late. The columns of the group are those of the sink's key, as they are: any
-- function or cast between would have Flink publish a deletion before each update.
CREATE TEMPORARY VIEW counted AS
SELECT key_bucket, key_start, COUNT(DISTINCT uid) AS unique_visitors, COUNT(*) AS visits
FROM starts CROSS JOIN UNNEST(ARRAY[
  ROW(CAST('minute|$timezone' AS STRING), minute_start),
  ROW(CAST('hour|$timezone' AS STRING), hour_start),
  ROW(CAST('day|$timezone' AS STRING), day_start),
  ROW(CAST('week|$timezone' AS STRING), week_start),
  ROW(CAST('month|$timezone' AS STRING), month_start),
  ROW(CAST('year|$timezone' AS STRING), year_start)
]) AS bucket (key_bucket, key_start)
GROUP BY key_bucket, key_start;

CREATE TEMPORARY VIEW placed AS
SELECT
  key_bucket, key_start, unique_visitors, visits,
  SPLIT_INDEX(key_bucket, '|', 0) AS granularity,
  CAST(TO_TIMESTAMP_LTZ(key_start, 0) AS TIMESTAMP(0)) AS local_start,
  TIMESTAMPDIFF(MINUTE, TIMESTAMP '2000-01-01 00:00:00', CAST(TO_TIMESTAMP_LTZ(key_start, 0) AS TIMESTAMP(0)))
    - (key_start - 946684800) / 60 AS offset_minutes
FROM counted;

INSERT INTO counts
SELECT
  '$output_prefix' || granularity,
  key_bucket,
  key_start,
  granularity,
  DATE_FORMAT(local_start, 'yyyy-MM-dd''T''HH:mm:ss')
    || CASE WHEN offset_minutes < 0 THEN '-' ELSE '+' END
    || LPAD(CAST(ABS(offset_minutes) / 60 AS STRING), 2, '0') || ':'
    || LPAD(CAST(MOD(ABS(offset_minutes), 60) AS STRING), 2, '0'),
  unique_visitors,
  visits,
  key_start,
  CASE granularity
    WHEN 'minute' THEN key_start + 60
    WHEN 'hour' THEN key_start + 3600
    ELSE 946684800 + TIMESTAMPDIFF(SECOND, TO_TIMESTAMP_LTZ(946684800, 0), CAST(
      CASE granularity
        WHEN 'day' THEN FLOOR(local_start TO DAY) + INTERVAL '1' DAY
        WHEN 'week' THEN FLOOR(local_start TO DAY) + INTERVAL '7' DAY
        WHEN 'month' THEN FLOOR(local_start TO MONTH) + INTERVAL '1' MONTH
        ELSE FLOOR(local_start TO YEAR) + INTERVAL '1' YEAR
      END AS TIMESTAMP_LTZ(0)))
  END,
  '$timezone',
  -- Nothing is ever closed here.
  'provisional',
  FALSE,
  -- Each visit is a change: so the number rises with every record of a key, also after a restart.
  visits,
  CAST($epoch AS BIGINT)
FROM placed;
