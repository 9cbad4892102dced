/**
 * What outlives the job server: jobs, their options, pipelines, plans, states, messages and final metrics, in SQLite.
 *
 * Invariants: a state outlives the process before anyone is told of it; messages are written in batches, at the latest with
 * the next state. One server has the file at a time. Schema changes raise SCHEMA_VERSION and add a migration.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { present } from "../base/assert.ts";
import { WeirError } from "../base/errors.ts";
import type { JobId } from "../base/ids.ts";
import { randomHex } from "../base/clock.ts";
import type { JobEvent } from "./job-event-log.ts";
import { importanceNumber, messageImportance } from "./job-executor.ts";
import type { JobState } from "./job-state.ts";

/** Of the file's user_version; 0 is a new file. */
const SCHEMA_VERSION = 2;

const MIGRATIONS: readonly string[] = [
  `CREATE TABLE server (id TEXT NOT NULL, leader_epoch INTEGER NOT NULL) STRICT;
   CREATE TABLE jobs (
     ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
     job_id TEXT NOT NULL UNIQUE,
     name TEXT NOT NULL,
     state TEXT NOT NULL,
     submitted_ms INTEGER NOT NULL,
     options BLOB NOT NULL,
     metrics BLOB
   ) STRICT;
   -- Apart from the jobs: changing a column rewrites its whole row, and these may be many megabytes.
   CREATE TABLE payloads (
     job_id TEXT NOT NULL PRIMARY KEY REFERENCES jobs (job_id) ON DELETE CASCADE,
     pipeline BLOB NOT NULL,
     plan BLOB NOT NULL
   ) STRICT;
   CREATE TABLE events (
     job_id TEXT NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
     sequence INTEGER NOT NULL,
     time_ms INTEGER NOT NULL,
     state TEXT,
     importance INTEGER,
     text TEXT,
     PRIMARY KEY (job_id, sequence)
   ) STRICT, WITHOUT ROWID;`,
  `ALTER TABLE jobs ADD COLUMN retrieval_token TEXT NOT NULL DEFAULT '';
   -- Since the job's last complete checkpoint.
   ALTER TABLE jobs ADD COLUMN take_ups INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE jobs ADD COLUMN checkpointed INTEGER NOT NULL DEFAULT 0;`,
];

export interface JobSummary {
  readonly jobId: JobId;
  readonly name: string;
  readonly state: JobState;
  readonly submittedMs: number;
  /** Encoded google.protobuf.Struct. */
  readonly options: Uint8Array;
}

export interface NewJob extends JobSummary {
  /** As submitted, byte for byte. */
  readonly pipeline: Uint8Array;
  /** The encoded execution graph. */
  readonly plan: Uint8Array;
  /** Owns what the job has staged. */
  readonly retrievalToken: string;
}

/** What a server knows of a job that an earlier one ran. */
export interface StoredRun {
  readonly retrievalToken: string;
  /** How often it was taken up without a complete checkpoint since. */
  readonly takeUps: number;
  /** It had a complete checkpoint once. */
  readonly checkpointed: boolean;
}

interface EventRow {
  readonly sequence: number;
  readonly time_ms: number;
  readonly state: string | null;
  readonly importance: number | null;
  readonly text: string | null;
}

export class JobStore {
  readonly #database: Database.Database;
  readonly #insertEvent: Database.Statement;
  readonly #setState: Database.Statement;
  /** Distinguishes this server's files from another's; stays the same over restarts. */
  readonly serverId: string;
  /** Greater than that of every earlier process on this store, and of those on a store that was lost. */
  readonly leaderEpoch: bigint;

  private constructor(database: Database.Database, nowMs: number) {
    this.#database = database;
    migrate(database);
    const server = database.prepare("SELECT id FROM server").get() as { id: string } | undefined;
    if (server === undefined) database.prepare("INSERT INTO server VALUES (?, 0)").run(randomHex(8));
    // The time, so that workers of a server whose disk is gone take the next one for what it is.
    const row = database
      .prepare("UPDATE server SET leader_epoch = max(leader_epoch + 1, ?) RETURNING id, leader_epoch")
      .get(nowMs);
    const { id, leader_epoch: epoch } = row as { id: string; leader_epoch: number };
    this.serverId = id;
    this.leaderEpoch = BigInt(epoch);
    this.#insertEvent = database.prepare("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)");
    this.#setState = database.prepare("UPDATE jobs SET state = ? WHERE job_id = ?");
  }

  /**
   * Opens, or creates, `weir.sqlite` in `directory`.
   * @throws WeirError when the directory cannot be written, another server has it, or a newer Weir wrote it.
   */
  static open(directory: string, nowMs: number): JobStore {
    const path = join(directory, "weir.sqlite");
    let database: Database.Database | undefined;
    try {
      mkdirSync(directory, { recursive: true });
      database = new Database(path, { timeout: 0 });
      // Held until close, and given back by the system when the process dies: there is one server for each store.
      database.pragma("locking_mode = EXCLUSIVE");
      database.exec("BEGIN EXCLUSIVE; COMMIT");
      database.pragma("journal_mode = WAL");
      database.pragma("synchronous = NORMAL");
      database.pragma("foreign_keys = ON");
      return new JobStore(database, nowMs);
    } catch (thrown) {
      database?.close();
      if (thrown instanceof WeirError) throw thrown;
      const busy = (thrown as { code?: string }).code?.startsWith("SQLITE_BUSY") === true;
      throw new WeirError({
        code: "FAILED_PRECONDITION",
        domain: "user",
        message: busy
          ? `The data directory ${directory} is in use by another Weir server.`
          : `The data directory ${directory} cannot be used: ${(thrown as Error).message}.`,
        hint: "Choose another one with --data-dir.",
        cause: thrown,
      });
    }
  }

  /** @throws WeirError RESOURCE_EXHAUSTED naming the file when the disk refuses */
  insertJob(job: NewJob): void {
    try {
      this.#insertJob(job);
    } catch (cause) {
      throw new WeirError({
        code: "RESOURCE_EXHAUSTED",
        domain: "external",
        message: `The job cannot be stored in ${this.#database.name}: ${(cause as Error).message}.`,
        hint: "Make room on that disk, or start the server with another --data-dir.",
        cause,
      });
    }
  }

  #insertJob(job: NewJob): void {
    this.#database.transaction(() => {
      this.#database
        .prepare(
          "INSERT INTO jobs (job_id, name, state, submitted_ms, options, retrieval_token) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .run(job.jobId, job.name, job.state, job.submittedMs, job.options, job.retrievalToken);
      this.#database.prepare("INSERT INTO payloads VALUES (?, ?, ?)").run(job.jobId, job.pipeline, job.plan);
    })();
  }

  /**
   * Adds events in one transaction; a state among them becomes the job's. `keptFrom`, when given, is the sequence
   * below which messages are dropped.
   */
  appendEvents(jobId: JobId, events: readonly JobEvent[], keptFrom?: number): void {
    this.#database.transaction(() => {
      for (const event of events) {
        const isState = event.kind === "state";
        this.#insertEvent.run(
          jobId,
          event.sequence,
          event.timeMs,
          isState ? event.state : null,
          isState ? null : importanceNumber(event.importance),
          isState ? null : event.text,
        );
        if (isState) this.#setState.run(event.state, jobId);
      }
      if (keptFrom !== undefined)
        this.#database
          .prepare("DELETE FROM events WHERE job_id = ? AND sequence < ? AND state IS NULL")
          .run(jobId, keptFrom);
    })();
  }

  /** Encoded GetJobMetricsResponse. */
  setMetrics(jobId: JobId, metrics: Uint8Array): void {
    this.#database.prepare("UPDATE jobs SET metrics = ? WHERE job_id = ?").run(metrics, jobId);
  }

  /** @throws assertion for an unknown job */
  storedRun(jobId: JobId): StoredRun {
    const row = this.#database
      .prepare("SELECT retrieval_token AS token, take_ups AS takeUps, checkpointed FROM jobs WHERE job_id = ?")
      .get(jobId) as { token: string; takeUps: number; checkpointed: number } | undefined;
    const { token, takeUps, checkpointed } = present(row, `job ${jobId}`);
    return { retrievalToken: token, takeUps, checkpointed: checkpointed !== 0 };
  }

  /** One more server tries to go on with the job. */
  countTakeUp(jobId: JobId): void {
    this.#database.prepare("UPDATE jobs SET take_ups = take_ups + 1 WHERE job_id = ?").run(jobId);
  }

  /** The server has ended as it was asked to, not by the job's doing. */
  forgetTakeUps(jobId: JobId): void {
    this.#database.prepare("UPDATE jobs SET take_ups = 0 WHERE job_id = ?").run(jobId);
  }

  /** The job has a complete checkpoint, its first or the first since it was taken up. */
  setCheckpointed(jobId: JobId): void {
    this.#database.prepare("UPDATE jobs SET take_ups = 0, checkpointed = 1 WHERE job_id = ?").run(jobId);
  }

  /** The server before has completed one, and may not have noted it: the take-up that is under way is the first since. */
  setFormerlyCheckpointed(jobId: JobId): void {
    this.#database.prepare("UPDATE jobs SET take_ups = 1, checkpointed = 1 WHERE job_id = ?").run(jobId);
  }

  /** All kept jobs, oldest first. */
  jobs(): JobSummary[] {
    const rows = this.#database
      .prepare("SELECT job_id, name, state, submitted_ms, options FROM jobs ORDER BY ordinal")
      .all() as SummaryRow[];
    return rows.map(summaryOf);
  }

  job(jobId: JobId): JobSummary | undefined {
    const row = this.#database
      .prepare("SELECT job_id, name, state, submitted_ms, options FROM jobs WHERE job_id = ?")
      .get(jobId) as SummaryRow | undefined;
    return row === undefined ? undefined : summaryOf(row);
  }

  events(jobId: JobId): JobEvent[] {
    const rows = this.#database
      .prepare("SELECT sequence, time_ms, state, importance, text FROM events WHERE job_id = ? ORDER BY sequence")
      .all(jobId) as EventRow[];
    return rows.map(({ sequence, time_ms: timeMs, state, importance, text }) =>
      state === null
        ? { kind: "message", sequence, timeMs, importance: messageImportance(importance ?? 0), text: text ?? "" }
        : { kind: "state", sequence, timeMs, state: state as JobState },
    );
  }

  pipeline(jobId: JobId): Uint8Array | undefined {
    return this.#blob("payloads", "pipeline", jobId);
  }

  plan(jobId: JobId): Uint8Array | undefined {
    return this.#blob("payloads", "plan", jobId);
  }

  /** Encoded GetJobMetricsResponse; undefined when there is none, or no job. */
  metrics(jobId: JobId): Uint8Array | undefined {
    return this.#blob("jobs", "metrics", jobId);
  }

  #blob(table: "jobs" | "payloads", column: "pipeline" | "plan" | "metrics", jobId: JobId): Uint8Array | undefined {
    const value = this.#database.prepare(`SELECT ${column} FROM ${table} WHERE job_id = ?`).pluck().get(jobId);
    return (value ?? undefined) as Uint8Array | undefined;
  }

  /** Drops the oldest terminal jobs beyond the newest `keep`. */
  prune(keep: number): void {
    this.#database
      .prepare(
        `DELETE FROM jobs WHERE ordinal IN (
           SELECT ordinal FROM jobs WHERE state IN ('DONE', 'FAILED', 'CANCELLED', 'DRAINED') ORDER BY ordinal DESC LIMIT -1 OFFSET ?)`,
      )
      .run(keep);
  }

  /** Idempotent. */
  close(): void {
    this.#database.close();
  }
}

interface SummaryRow {
  readonly job_id: string;
  readonly name: string;
  readonly state: string;
  readonly submitted_ms: number;
  readonly options: Uint8Array;
}

function summaryOf(row: SummaryRow): JobSummary {
  return {
    jobId: row.job_id as JobId,
    name: row.name,
    state: row.state as JobState,
    submittedMs: row.submitted_ms,
    options: row.options,
  };
}

function migrate(database: Database.Database): void {
  const version = database.pragma("user_version", { simple: true }) as number;
  if (version > SCHEMA_VERSION) {
    throw new WeirError({
      code: "FAILED_PRECONDITION",
      domain: "user",
      message: `${database.name} was written by a newer Weir (schema ${version}, this one knows ${SCHEMA_VERSION}).`,
      hint: "Run that one, or choose another --data-dir.",
    });
  }
  database.transaction(() => {
    for (const migration of MIGRATIONS.slice(version)) database.exec(migration);
    database.pragma(`user_version = ${SCHEMA_VERSION}`);
  })();
}
