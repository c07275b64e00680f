BEGIN TRANSACTION;
CREATE TABLE events (
        task INTEGER NOT NULL,
        id INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        kind TEXT NOT NULL,
        data BLOB NOT NULL,
        UNIQUE (task, id)
    );
INSERT INTO "events" VALUES(2,1,1,'event',X'31');
CREATE TABLE manifests (
        id TEXT PRIMARY KEY,
        document TEXT NOT NULL
    ) WITHOUT ROWID
    ;
INSERT INTO "manifests" VALUES('m1','{"name":"digest"}');
CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value NOT NULL
    ) WITHOUT ROWID
    ;
INSERT INTO "meta" VALUES('state_bytes',23);
INSERT INTO "meta" VALUES('state_keys',2);
INSERT INTO "meta" VALUES('state_version',3);
CREATE TABLE outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        channel TEXT NOT NULL,
        lane TEXT NOT NULL,
        task TEXT NOT NULL,
        kind TEXT NOT NULL,
        destination TEXT NOT NULL,
        created_at REAL NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        due_at REAL,
        payload BLOB NOT NULL
    );
INSERT INTO "outbox" VALUES(1,'msg_1','webhook','https://h','done','task','https://h/',1.7,0,1.7,X'7B7D');
CREATE TABLE state (
        key TEXT NOT NULL PRIMARY KEY,
        version INTEGER NOT NULL,
        expires_at REAL,
        value BLOB NOT NULL
    );
INSERT INTO "state" VALUES('counter',3,NULL,X'3431');
INSERT INTO "state" VALUES('users/1',2,4000000000.0,X'224164612220');
CREATE TABLE tasks (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        manifest TEXT NOT NULL,
        capability TEXT NOT NULL,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        conflicts INTEGER NOT NULL,
        created_at REAL NOT NULL,
        started_at REAL,
        finished_at REAL,
        deadline_at REAL,
        timeout_s REAL,
        size_bytes INTEGER NOT NULL,
        trace_id TEXT,
        traceparent TEXT NOT NULL,
        callback_url TEXT,
        lease TEXT,
        hops INTEGER,
        failure TEXT,
        progress TEXT,
        metadata BLOB NOT NULL,
        output BLOB,
        input BLOB NOT NULL
    );
INSERT INTO "tasks" VALUES(1,'done','m1','digest','completed',1,0,1.5,1.6,1.7,NULL,NULL,1040,NULL,'',NULL,NULL,NULL,NULL,NULL,X'7B7D',X'31',X'7B7D');
INSERT INTO "tasks" VALUES(2,'open','m1','digest','working',2,1,1.5,1.6,NULL,301.5,300.0,1040,'t','','https://h/',NULL,NULL,NULL,'[0.5, null]',X'7B7D',NULL,X'7B7D');
CREATE INDEX open_tasks ON tasks (seq) WHERE finished_at IS NULL;
CREATE INDEX finished_tasks ON tasks (finished_at, size_bytes) WHERE finished_at IS NOT NULL;
CREATE INDEX state_expiry ON state (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX outbox_due ON outbox (channel, lane, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_order ON outbox (channel, task, number);
CREATE INDEX outbox_age ON outbox (channel, created_at);
CREATE INDEX outbox_reports ON outbox (number) WHERE channel = 'link';
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('outbox',1);
COMMIT;
PRAGMA application_id = 1799448430;
PRAGMA user_version = 1;
