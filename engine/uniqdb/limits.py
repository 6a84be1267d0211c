"""Every bound of the engine in one place, with the relations between them asserted at import.

A number that changes results or the bytes on disk says so. The others change speed or memory only.
"""

# --- visits (change results) ---
EVENT_TIME_S_MIN = 946_684_800
"""2000-01-01T00:00:00Z, inclusive. Earlier event times are implausible. Since then all offsets are whole minutes."""
EVENT_TIME_S_MAX = 253_370_764_800
"""9999-01-01T00:00:00Z, exclusive: the calendar of Python's ``datetime`` ends with that year."""
UID_BYTES_MIN = 1
UID_BYTES_MAX = 1_024
LINE_BYTES_MAX = 64 * 1024
"""A record longer than this is refused before it is decoded, unless a source says otherwise."""
LINE_BYTES_LIMIT = 16 * 1024 * 1024
"""The most that a source may say: a whole record is held in memory."""
RECORD_DEPTH_MAX = 64
"""Documented nesting depth; the decoder's own recursion limit is the last line of defence."""
QUARANTINE_RECORD_BYTES_MAX = 1_024
"""Bytes of a refused record that are kept beside its hash."""
ORDINAL_MAX = 2**32 - 1
"""Ordinals are u32 and never reused in a live store."""

# --- event time (change verdicts and closes; the state that is stored with a source depends on them) ---
AHEAD_LIMIT_S = 600
"""A visit at most so far ahead of its source's clock counts at once (unless the user says otherwise)."""
LATE_LIMIT_S = 86_400
"""A visit at most so far behind its source's clock counts at once (unless the user says otherwise)."""
ALLOWED_LATENESS_S = 5
"""A bucket is final once the clock has passed its end by so much: 99.9 % of the field's visits arrive within it."""
EVENT_LIMIT_S_MAX = 2**40
"""No limit of event time is larger: sums of it and of times fit into 64 bits."""
IMPLAUSIBLE_AHEAD_S = 86_400
"""A visit more than so far after its reference (arrival, or the wall clock) is implausible."""
RECENT_VISITS = 1_000
"""The last plausible visits of a source that are remembered; a held visit waits for so many further ones."""
WITNESSES = 20
"""So many visits that agree are believed: they start the clock, carry it, and are company."""
JUMP_VISITS = 100
"""The clock jumps when more than half of the last visits, this many, lie beyond its limits on the same side."""
LIMITS_EVERY_VISITS = 100
"""The limits of a source are computed anew whenever its visit number is a multiple of this."""
SPARSE_STEPS = 80
"""The limits are at least so many times the median step between the sorted recent times."""
SPARSE_SPANS = 4
"""And so many times the median span of 20 visits, for visits in bursts; as much as 80 steps where they come evenly."""
ARRIVAL_DELAY_S_MAX = 60
"""A partition whose visits arrive with more delay is not closed by arrival."""
IDLE_TIMEOUT_S = 30
"""A partition that is caught up and silent for so long no longer holds back its topic's clock."""

# --- sources ---
HEAD_BYTES = 64 * 1024
"""So much of a file's beginning is hashed to know it again (changes what counts as the same file)."""
READ_BLOCK_BYTES = 4 * 1024 * 1024
QUARANTINE_MAX_ROWS = 1_000_000
"""Refused records that are kept; beyond, they are only counted, by source and reason."""
FOLLOW_QUIET_S = 1.0
"""A rotated file that got nothing for so long is done: its writer has turned to the new one."""
PIPE_SILENCE_S = 0.2
"""A pipe that says nothing for so long gives the driver a turn: to commit what waits, to stop if asked."""
NO_VISIT_RECORDS = 1_000
"""A source whose first records, this many, hold no visit is refused: its fields are named otherwise."""

# --- commits ---
COMMIT_VISITS = 50_000
COMMIT_INTERVAL_S = 1.0
COMMIT_VISITS_MAX = 1_000_000
DECODE_PROCESSES_MAX = 4
"""More processes that decode a file have nothing to do: what is done with its visits takes about half as long."""
SCATTERED_COMMIT_FACTOR = 10
"""Input in no order touches most buckets with every commit: commits of so many times the visits save half the work."""
STRANGERS_COMMIT_FACTOR = 4
"""Visitors whom no cache knows are sought in all of the dictionary with every commit: so many times the visits at once
halve the cost of its fragments."""

# --- retention (days; 0 keeps for ever; change what can be asked of old buckets) ---
MINUTE_RETENTION_DAYS = 7
HOUR_RETENTION_DAYS = 35
DAY_RETENTION_DAYS = 400
WEEK_RETENTION_DAYS = 731
"""Two years, a leap day included."""
MONTH_RETENTION_DAYS = 1_827
"""Five years, two leap days included."""
YEAR_RETENTION_DAYS = 0
COUNT_RETENTION_DAYS = 0
RETENTION_DAYS_MAX = 3_000_000
"""More days than the calendar has."""
SWEEP_SHARE = 10
"""A run removes at most one in so many of a granularity's buckets, and at least one, unless it is forced."""
SWEEP_STEP_BUCKETS = 1_000
"""So many buckets are swept in one transaction, between two commits of visits."""
SWEEP_COUNT_STEP_BUCKETS = 100_000
"""So many rows are counted before something else has its turn."""
DROP_STEP_BYTES = 8 * 1024 * 1024
"""So much of the dictionary is looked through for dead uids in one transaction."""
SWEEP_INTERVAL_S = 3_600.0
"""A service begins a run so often."""
SWEEP_TURN_S = 1.0
"""So long a writer sweeps on request before it reads on."""
AUDIT_ROWS_MAX = 100
"""Destructive runs that a store remembers."""
ORDINALS_ALARM_FRACTION = 0.8
"""From here on a store says that its ordinals come to an end."""

# --- a full disk ---
ROOM_PAUSE_S_MIN, ROOM_PAUSE_S_MAX = 0.5, 10.0
"""A service whose commit was refused tries again after so long at first, and at most."""
ROOM_LOG_INTERVAL_S = 60.0
SWEEP_RESERVE_FRACTION = 16
SWEEP_RESERVE_BYTES_MIN = 8 * 1024 * 1024
"""Beyond ``max_store_bytes`` a sweep may use one in so many bytes more, at least this: to free pages it needs some."""

# --- requests to a running writer ---
REQUEST_BYTES_MAX = 1_000_000
"""A larger request or answer is refused before it is decoded."""
REQUEST_POLL_S = 0.05
"""So often whoever handed a request in looks for the answer."""
REQUEST_SERVE_S = 0.2
"""A writer looks for requests at most so often."""
REQUEST_LEFTOVER_S = 3_600
"""What lies in the folder for so long has lost its owner."""

# --- answers ---
COHORTS_MAX = 400
"""Periods of one answer: each pair of them is a number, and an intersection of two sets."""

# --- the map and readers ---
MAP_BYTES_INITIAL = 64 * 1024**3
"""Address space, not memory or disk: a map that seldom grows seldom ends the snapshots that are open in the process."""
MAP_BYTES_MIN = 1024 * 1024
MAP_USED_FRACTION_MAX = 0.8
"""The writer grows the map between transactions once more than this part of it is used."""
MAP_GROWTH_BYTES_MAX = 256 * 1024**3
"""The map doubles, but grows by at most this much at once."""
READERS_MAX = 512
READ_TXN_AGE_S_MAX = 5.0
"""A read transaction that the handle holds for itself is renewed at least this often, so that pages can be reused."""

GENERATION_LOOK_S = 1.0
"""A reader asks at most so often whether the data file was replaced by a newer generation."""
FRESH_TXN_BYTES = 16 * 1024 * 1024
"""A data file in the making is written in transactions of about so much."""

VERIFIED_FRAGMENTS_MAX = 65_536
"""Fragments whose verified blocks a process remembers; a forgotten one is verified again."""

DIRECTORIES_MAX = 4_096
"""Directories of units that a process keeps unpacked: a few KiB each."""

# --- rows and fragments (persisted: a change is a new format version) ---
CHECKSUM_BLOCK_BYTES = 64 * 1024
FRAGMENT_FAN_IN = 4
"""So many fragments of one size class are merged into one of the next; a class spans a factor of the same size."""
INLINE_MEMBERS_MAX = 64
"""A bucket of at most so many members has them in its row: it is one row to read and to write, not three."""
UNIT_FRAGMENTS_MAX = 64
"""check() calls a unit with more fragments than this damaged."""

# --- the uid dictionary ---
PARTITION_ENTRIES_MAX = 128 * 1024
PARTITION_BYTES_MAX = 4 * 1024 * 1024
YOUNG_BYTES_MAX = 16 * 1024 * 1024
"""When the fragments of the young unit hold this much, they begin to drain into the partitions."""
YOUNG_MERGE_BYTES_MAX = 1024 * 1024
"""Only young fragments below this are merged with each other: larger ones drain soon enough."""
PARTITION_FRAGMENTS_URGENT = 40
"""A partition with more fragments is merged whatever the budget says."""
MAINTENANCE_BYTES_PER_NEW_BYTE = 12
"""How much a commit may drain, merge and split for each byte of new dictionary entries."""

# --- caches (memory) ---
UID_FILTER_BYTES_MIN, UID_FILTER_BYTES_MAX = 1024 * 1024, 128 * 1024 * 1024
"""Of `uniqdb.uid_filter`: enough for 50 million uids and more."""
UID_CACHE_ENTRIES = 1_000_000
"""About 100 bytes each for uids of 20 bytes: `uniqdb.uid_cache`, half of whose slots are free."""
MEMBERS_CACHE_BUCKETS = 20_000
"""A writer remembers at most so many buckets: more cost the garbage collector more than they save."""
MEMBERS_CACHE_BYTES = 256 * 1024 * 1024
EXPORT_UIDS_BYTES = 256 * 1024 * 1024
"""An export holds about so much of uids, and goes through the dictionary again for more."""
EXPORT_MEMBERS_MAX, EXPORT_BUCKETS_MAX = 16_000_000, 20_000
"""... and so many members, in so many buckets, as sets."""
SEEN_UIDS_MAX, SEEN_UID_CHARACTERS_MAX = 32 * 1024, 128
"""So many uids that were asked for are remembered, if they are no longer than this: `uniqdb.seen_uids`."""

assert EVENT_TIME_S_MIN % 86_400 == EVENT_TIME_S_MAX % 86_400 == 0
assert EVENT_TIME_S_MAX // 60 < 2**32, "a minute number and an ordinal share 64 bits"
assert PARTITION_ENTRIES_MAX * UID_BYTES_MIN < PARTITION_BYTES_MAX
assert YOUNG_BYTES_MAX >= PARTITION_BYTES_MAX
assert COMMIT_VISITS <= COMMIT_VISITS_MAX
assert MINUTE_RETENTION_DAYS <= HOUR_RETENTION_DAYS <= DAY_RETENTION_DAYS <= WEEK_RETENTION_DAYS <= MONTH_RETENTION_DAYS
assert WITNESSES < JUMP_VISITS <= RECENT_VISITS
assert RECENT_VISITS % LIMITS_EVERY_VISITS == 0, "limits are computed from whole hundreds of visits"
