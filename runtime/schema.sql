-- The ledger of one run. Times ending in _ms are milliseconds since the Unix epoch.

-- Every start of a process on this run: the first, and each resume.
CREATE TABLE incarnations (
    incarnation INTEGER PRIMARY KEY AUTOINCREMENT,
    started_ms  INTEGER NOT NULL
) STRICT;

-- What the run is to do. Of a run that trains, what was admitted so far. No row ever changes.
CREATE TABLE rollouts (
    rollout     INTEGER PRIMARY KEY,
    task        TEXT NOT NULL,
    task_digest TEXT NOT NULL,
    group_id    INTEGER NOT NULL, -- the rollouts of one task, or of one visit to it, are a group
    agent       TEXT NOT NULL     -- who solves it
) STRICT;

-- Every attempt that was ever dispatched (AC-1: inserted before it was).
CREATE TABLE attempts (
    rollout     INTEGER NOT NULL REFERENCES rollouts,
    attempt     INTEGER NOT NULL, -- 1 is the first
    fence       INTEGER NOT NULL UNIQUE,
    incarnation INTEGER NOT NULL REFERENCES incarnations,
    node        TEXT NOT NULL, -- who ran it; `local` without a cluster
    -- Not `state IN (...)`: that makes SQLite build a table of the three words for every row.
    state       TEXT NOT NULL CHECK (state = 'assigned' OR state = 'ended' OR state = 'interrupted'),
    assigned_ms INTEGER NOT NULL,
    started_ms  INTEGER,
    ended_ms    INTEGER,
    outcome     TEXT, -- graded, infrastructure_failure, or how the agent failed: timed_out,
                      -- no_finish, tokens_used_up, refused
    reward      REAL, -- NULL after an infrastructure failure (AC-2)
    class       TEXT, -- the infrastructure failure's
    message     TEXT,
    note        TEXT,
    wall_sec    REAL, -- = the sum of the seven below
    queue_sec   REAL,
    image_sec   REAL,
    create_sec  REAL,
    exec_sec    REAL,
    model_sec   REAL,
    grade_sec   REAL,
    cleanup_sec REAL,
    PRIMARY KEY (rollout, attempt),
    CHECK (class IS NULL OR reward IS NULL)
) STRICT;

-- The agents of the teams of attempts that ended (written with that end); agent 0 is the orchestrator.
CREATE TABLE agents (
    rollout           INTEGER NOT NULL,
    attempt           INTEGER NOT NULL,
    step              INTEGER NOT NULL, -- of the task, 0 is the first
    agent             INTEGER NOT NULL, -- numbered as they were launched
    parent            INTEGER,          -- the agent that launched it
    role              TEXT NOT NULL,    -- orchestrator, explorer, coder
    task              TEXT NOT NULL,    -- of the team, what it was launched for
    title             TEXT NOT NULL,
    model             TEXT NOT NULL,    -- as its endpoint names it
    turns             INTEGER NOT NULL,
    takeovers         INTEGER NOT NULL, -- new actors that went on in its place
    prompt_tokens     INTEGER NOT NULL, -- those from a cache included
    cached_tokens     INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cost_usd          REAL,             -- NULL where its model has no price
    model_sec         REAL NOT NULL,    -- waiting for its model
    action_sec        REAL NOT NULL,    -- acting, without the time of those whom it launched
    began_sec         REAL NOT NULL,    -- since the start of the step
    ended_sec         REAL NOT NULL,
    ended             TEXT NOT NULL,    -- finished, forced, synthetic, refused, failed, cancelled
    message           TEXT NOT NULL,    -- its last words, cut
    PRIMARY KEY (rollout, attempt, step, agent),
    FOREIGN KEY (rollout, attempt) REFERENCES attempts
) STRICT;

-- The terminal records: at most one per rollout, by the primary key (AC-2).
CREATE TABLE results (
    rollout  INTEGER PRIMARY KEY REFERENCES rollouts,
    attempt  INTEGER NOT NULL, -- 0: cancelled before its first attempt
    ended_ms INTEGER NOT NULL,
    outcome  TEXT NOT NULL,
    reward   REAL,
    class    TEXT,
    message  TEXT,
    CHECK ((outcome = 'infrastructure_failure') = (reward IS NULL)),
    CHECK ((outcome = 'infrastructure_failure') = (class IS NOT NULL))
) STRICT;

-- The batches of training steps. A rollout is in at most one, by the key (AC-5: inserted before the
-- step begins).
CREATE TABLE batches (
    step    INTEGER NOT NULL, -- of the optimizer, 1 is the first
    place   INTEGER NOT NULL, -- in the batch, 0 is the first
    rollout INTEGER NOT NULL UNIQUE REFERENCES results,
    PRIMARY KEY (step, place)
) STRICT, WITHOUT ROWID;
