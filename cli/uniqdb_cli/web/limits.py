"""What one request may cost, and how much of the machine all of them may have. Every bound in one place."""

URL_BYTES_MAX = 2_048
"""Path and query, as they were sent."""
HEAD_BYTES_MAX = 16_384
"""The request line and all headers."""
CONNECTIONS_MAX = 64
"""A browser opens six. Those beyond are closed as they come."""
REQUEST_TIMEOUT_S = 5.0
"""So long a connection may be silent, or take for its request."""
RESPONSE_TIMEOUT_S = 30.0
"""So long a request may take from its arrival until the last byte was fetched."""
LOOK_S = 0.5
"""So often a connection is looked at."""
READERS = 2
"""Threads that read the store. Its handle lets one call in at a time; the other one encodes meanwhile."""
WAITING_MAX = 32
"""Requests that wait for a thread; those beyond are told to come back."""
WORK_S_MAX = 10.0
"""A request that has worked for so long gives up: seconds, looked at between records."""
RECORDS_MAX = 100_000
"""Records of an answer; counted by the length of the range before anything is read."""
SPLITS_MAX = 400
"""Buckets for which an answer tells new visitors from returning ones."""
COHORTS_MAX = 60
"""Cohorts of an answer: a year of weeks, two months of days, five years of months."""
STICKY_DAYS_MAX = 400
"""Days of an answer that are each held against their 7 and their 30 days."""
WINDOWS_MAX = 12
"""Trailing windows of an answer."""
UID_BYTES_MAX = 1_024
KEEP_UP_S = 1.0
"""So often it is looked whether the data file was replaced, also when nobody asks."""
PROOF_EVERY_S = 900.0
"""Of several stores it is proved again that they share no visitor: at most so often, and only when somebody is new."""
PROOF_TIME_PARTS = 10
"""Nor in more than this part of the time."""
ANSWERS_KEPT_BYTES_MAX = 16_000_000
"""Answers kept for whoever asks the same of the same commit, all of them together."""
ANSWER_KEPT_BYTES_MAX = 1_000_000
"""A larger answer is not kept."""
TOKEN_CHARACTERS_MIN = 16

assert URL_BYTES_MAX < HEAD_BYTES_MAX
assert ANSWER_KEPT_BYTES_MAX < ANSWERS_KEPT_BYTES_MAX
assert REQUEST_TIMEOUT_S > 2 * LOOK_S
assert WORK_S_MAX < RESPONSE_TIMEOUT_S
