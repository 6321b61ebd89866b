// The answers of the API that the pages read. A test compares each interface with the schema of the same name
// in the server's own description (/openapi.json): a field that is not there, or of another type, fails it.

export interface Problem {
  title: string;
  status: number;
  detail: string;
  request_id: string;
  error?: string;
  retry_after_seconds?: number;
  errors?: Record<string, unknown>[];
}

export interface CatalogAnswer {
  name: string;
  type: string;
}

export interface CatalogListAnswer {
  catalogs: CatalogAnswer[];
}

export interface ListedTableAnswer {
  uri: string;
  catalog: string;
  namespace: string[];
  name: string;
  kind: string;
}

export interface TableListAnswer {
  tables: ListedTableAnswer[];
  next_page_token: string | null;
}

export interface TableAnswer {
  uri: string;
  catalog: string;
  namespace: string[];
  name: string;
  uuid: string;
  format_version: number;
  restricted: boolean;
  snapshot_id: string | null;
  snapshot_timestamp: string | null;
  last_updated: string;
  schema: Record<string, unknown>;
  partition_spec: Record<string, unknown>[];
  sort_order: Record<string, unknown>[];
  properties: Record<string, string>;
  rows: number | null;
  bytes: number | null;
  files: number | null;
}

export interface SnapshotAnswer {
  snapshot_id: string;
  parent_id: string | null;
  sequence_number: number;
  timestamp: string;
  schema_id: number | null;
  summary: Record<string, string> | null;
}

export interface SnapshotListAnswer {
  snapshots: SnapshotAnswer[];
  next_page_token: string | null;
}

export interface RefAnswer {
  name: string;
  type: string;
  snapshot_id: string;
  max_ref_age_ms: number | null;
  max_snapshot_age_ms: number | null;
  min_snapshots_to_keep: number | null;
}

export interface RefListAnswer {
  refs: RefAnswer[];
  next_page_token: string | null;
}

export interface ArtifactAnswer {
  artifact_id: string;
  version: number;
  state: string;
  arrow_schema: string | null;
  row_count: number | null;
  byte_size: number | null;
  created_at: string;
  content_sha256: string | null;
  provenance_hash: string;
  transform_spec: string;
  input_versions: string;
}

export interface ArtifactListAnswer {
  artifacts: ArtifactAnswer[];
  total_count: number;
  limit: number;
  next_page_token: string | null;
}

export interface SummaryItem {
  name: string;
  uri: string;
  alias_uris: Record<string, string>;
  tags: Record<string, string>;
  owner: string | null;
}

export interface SummaryAnswer {
  names: SummaryItem[];
  next_page_token: string | null;
}

export interface ChangedInputAnswer {
  input_uri: string;
  old_version: string | null;
  new_version: string | null;
}

export interface NameStatusAnswer {
  name: string;
  artifact_uri: string;
  state: string;
  updated_at: string;
  is_stale: boolean;
  stale_reason: string | null;
  changed_inputs: ChangedInputAnswer[];
}

export interface AliasItem {
  alias: string;
  artifact_id: string;
  version: number;
  updated_at: string;
}

export interface AliasListAnswer {
  aliases: AliasItem[];
}

export interface AliasSetAnswer {
  status: string;
  name: string;
  alias: string;
}

export interface PendingItem {
  name: string;
  alias: string;
  action: string;
  artifact_id: string;
  version: number;
  requested_by: string;
  requested_at: string;
}

export interface PendingListAnswer {
  pending: PendingItem[];
  next_page_token: string | null;
}

export interface TagsAnswer {
  tags: Record<string, string>;
}

export interface TaggedItem {
  artifact_id: string;
  version: number;
  uri: string;
  names: string[];
  tags: Record<string, string>;
}

export interface TaggedListAnswer {
  artifacts: TaggedItem[];
  next_page_token: string | null;
}

export interface EventItem {
  seq: number;
  at: string;
  actor: string;
  action: string;
  alias: string | null;
  artifact_id: string | null;
  from_artifact_id: string | null;
  from_version: number | null;
  to_version: number | null;
}

export interface RegistryAuditAnswer {
  entries: EventItem[];
  next_before: number | null;
}

export interface HoldAnswer {
  kind: string;
  name: string | null;
  artifact_uri: string | null;
  alias: string | null;
  reason: string | null;
}

export interface WhyAnswer {
  artifact_uri: string;
  held_by: HoldAnswer[];
  in_use: boolean;
  last_used_at: string | null;
  may_go_at: string | null;
  goes_at: string | null;
}

export interface NodeAnswer {
  uri: string;
  artifact_id: string | null;
  version: number | null;
  type: string;
  transform_ref: string | null;
  created_at: string | null;
}

export interface EdgeAnswer {
  from_uri: string;
  to_uri: string;
}

export interface LineageAnswer {
  artifact_uri: string;
  nodes: NodeAnswer[];
  edges: EdgeAnswer[];
  truncated: boolean;
}

export interface StatsAnswer {
  total_artifacts: number;
  total_bytes: number;
  by_state: Record<string, number>;
}

export interface LimitAnswer {
  value: unknown;
  source: string;
  maximum: number | null;
  granted: unknown;
  about: string;
}

export interface SlotsAnswer {
  tier: string;
  total: number;
  used: number;
  waiting: number;
}

export interface CacheStatsAnswer {
  hits: number;
  misses: number;
  hit_rate: number;
  segments: number;
  size_bytes: number;
  max_size_bytes: number;
  evictions: number;
  damaged: number;
}

export interface HeaderAnswer {
  name: string;
  role: string;
  seen: boolean;
}

export interface CheckAnswer {
  what: string;
  allowed: boolean;
  status: number | null;
  error: string | null;
  detail: string | null;
}

export interface StorageAnswer {
  stored_bytes: number;
  results: number;
}

export interface MeAnswer {
  principal: string;
  tenant: string;
  scopes: string[];
  unrestricted: boolean;
  operator: boolean;
  headers: HeaderAnswer[];
  state: string;
  limits: Record<string, LimitAnswer>;
  usage: UsageAnswer | null;
  storage: StorageAnswer | null;
  checks: CheckAnswer[];
}

export interface TenantSummary {
  tenant: string;
  state: string;
  enabled: boolean;
  drained: boolean;
  live_since: string | null;
  restarts: number;
  waiting_callers: number;
  queued_questions: number;
}

export interface TenantListAnswer {
  tenants: TenantSummary[];
  limit: number;
  next: string | null;
}

export interface AccessAnswer {
  allowed: boolean;
  reason: string;
  partial: boolean;
  rules: number;
  considered: ConsideredAnswer[];
  otherwise: OtherwiseAnswer | null;
}

export interface TransformListAnswer {
  transforms: TransformAnswer[];
}

export interface TransformAnswer {
  ref: string;
  executor: string;
}

export interface InFlightAnswer {
  build_id: string | null;
  progress: number;
}

export interface UsageAnswer {
  slots: SlotsAnswer[];
  in_flight: InFlightAnswer[];
  questions: number;
  streams_waiting: number;
  cache: CacheStatsAnswer | null;
}

export interface ErrorAnswer {
  at: string;
  code: string;
  what: string;
}

export interface TenantAnswer {
  tenant: string;
  state: string;
  enabled: boolean;
  drained: boolean;
  live_since: string | null;
  restarts: number;
  waiting_callers: number;
  queued_questions: number;
  limits: Record<string, LimitAnswer>;
  usage: UsageAnswer | null;
  last_errors: ErrorAnswer[];
  artifacts: StatsAnswer;
}

export interface ConsideredAnswer {
  effect: string;
  number: number;
  principal: string;
  resource: string;
  matches: boolean;
  misses: string[];
}

export interface AddedRuleAnswer {
  effect: string;
  principal: string;
  resource: string;
  action: string | null;
  tenant: string | null;
}

export interface OtherwiseAnswer {
  allowed: boolean;
  remove: string[];
  add: AddedRuleAnswer[];
}

export interface DependentsAnswer {
  dependents: NodeAnswer[];
  total_count: number;
}

export interface AuditAnswer {
  id: number;
  at: string;
  tenant: string | null;
  principal: string | null;
  action: string;
  old: Record<string, unknown> | null;
  new: Record<string, unknown> | null;
  request_id: string | null;
}

export interface AuditListAnswer {
  entries: AuditAnswer[];
  next: number | null;
}

export interface ActAnswer {
  tenant: string;
  action: string;
  changed: boolean;
  state: string;
}

export interface ReceiptInput {
  uri: string;
  version: string;
  snapshot_id: string | null;
}

export interface ReceiptAnswer {
  rows: number;
  bytes: number;
  sha256: string;
  inputs: ReceiptInput[];
}

export interface TenantLimitsAnswer {
  tenant: string;
  limits: Record<string, LimitAnswer>;
}

export interface NotebookSummary {
  name: string;
  title: string;
  owner: string;
  access: string;
  revision: number;
  created_at: string;
  updated_at: string;
}

export interface NotebookListAnswer {
  notebooks: NotebookSummary[];
  next_page_token: string | null;
}

export interface CellAnswer {
  id: string;
  language: string;
  source: string;
  name: string | null;
  metadata: Record<string, unknown>;
}

export interface DiagnosticAnswer {
  severity: string;
  code: string;
  message: string;
  line: number | null;
  column: number | null;
  name: string | null;
  cells: string[];
}

export interface CellNodeAnswer {
  id: string;
  inputs: Record<string, string>;
  after: string[];
  defines: string[];
  deletes: string[];
  runnable: boolean;
  diagnostics: DiagnosticAnswer[];
}

export interface NotebookEdgeAnswer {
  from_cell_id: string;
  to_cell_id: string;
  variable: string;
}

export interface GraphAnswer {
  cells: CellNodeAnswer[];
  edges: NotebookEdgeAnswer[];
  topological_order: string[];
  variable_producer: Record<string, string>;
}

export interface NotebookAnswer {
  name: string;
  title: string;
  owner: string;
  access: string;
  revision: number;
  latest_revision: number;
  author: string;
  created_at: string;
  updated_at: string;
  metadata: Record<string, unknown>;
  cells: CellAnswer[];
  dag: GraphAnswer;
}

export interface RevisionAnswer {
  revision: number;
  author: string;
  created_at: string;
  byte_size: number;
}

export interface RevisionListAnswer {
  revisions: RevisionAnswer[];
  next_page_token: string | null;
}

export interface CellChangeAnswer {
  kind: string;
  cell_id: string;
  before: CellAnswer | null;
  after: CellAnswer | null;
  before_place: number | null;
  after_place: number | null;
}

export interface ComparisonAnswer {
  before_revision: number;
  after_revision: number;
  before_title: string | null;
  after_title: string | null;
  before_metadata: Record<string, unknown> | null;
  after_metadata: Record<string, unknown> | null;
  cells: CellChangeAnswer[];
}

export interface DeletedAnswer {
  deleted: string;
}

export interface ImportLineAnswer {
  code: string;
  message: string;
  cell: number | null;
}

export interface ImportAnswer {
  notebook: NotebookAnswer;
  import_report: ImportLineAnswer[];
  left_out: number;
}

export interface StaleReasonAnswer {
  because: string;
  name: string | null;
  cell: string | null;
}

export interface ValueAnswer {
  content_type: string;
  sha256: string;
  bytes: number;
  type: string;
  preview: string;
}

export interface DisplayAnswer {
  content_type: string;
  bytes: number;
  preview: string;
}

export interface CellResultAnswer {
  outcome: string;
  message: string;
  traceback: string | null;
  line: number | null;
  seconds: number;
  run_by: string;
  revision: number;
  stdout: string;
  stderr: string;
  values: Record<string, ValueAnswer>;
  displays: DisplayAnswer[];
  displays_left_out: number;
  changed_in_place: string[];
}

export interface SessionCellAnswer {
  id: string;
  status: string;
  stale: StaleReasonAnswer[];
  hidden: boolean;
  result: CellResultAnswer | null;
}

export interface MemberAnswer {
  member: string;
  principal: string;
  writes: boolean;
  focus: string | null;
}

export interface LockAnswer {
  cell: string;
  member: string;
  principal: string;
  seconds: number;
}

export interface SessionAnswer {
  session: string;
  seq: number;
  revision: number;
  cells: SessionCellAnswer[];
  members: MemberAnswer[];
  locks: LockAnswer[];
}

export interface PresenceAnswer {
  session: string;
  seq: number;
  member: string;
  members: MemberAnswer[];
  locks: LockAnswer[];
}

export interface EventAnswer {
  seq: number;
  type: string;
  payload: Record<string, unknown>;
}

export interface EventsAnswer {
  session: string;
  seq: number;
  complete: boolean;
  events: EventAnswer[];
}

export interface RunCellAnswer {
  cell: string;
  how: string;
  message: string;
  seconds: number;
  stdout: string;
  stderr: string;
  traceback: string | null;
  displays: string[];
  hidden: boolean;
}

export interface NotebookRunAnswer {
  run: string;
  author: string;
  schedule: string | null;
  revision: number;
  state: string;
  began_at: string;
  ended_at: string | null;
  parameters: Record<string, unknown>;
  cells: RunCellAnswer[];
}

export interface NotebookRunsAnswer {
  runs: NotebookRunAnswer[];
  next_page_token: string | null;
}

export interface ScheduleAnswer {
  schedule: string;
  owner: string;
  cron: string;
  time_zone: string;
  parameters: Record<string, unknown>;
  timeout_seconds: number;
  overlap: string;
  missed: string;
  retries: number;
  next_at: string | null;
  message: string | null;
  paused: boolean;
  next_times: string[];
}

export interface SchedulesAnswer {
  schedules: ScheduleAnswer[];
}

export interface DeletedScheduleAnswer {
  schedule: string;
}

export interface TableAccessAnswer {
  table: string;
  snapshot: string | null;
  rule: string;
  allowed: boolean;
}

export interface BuildLineAnswer {
  build_id: string | null;
  artifact_uri: string | null;
  state: string;
  waits_for: string | null;
  principals: string[];
  tables: TableAccessAnswer[];
  tables_cut: boolean;
  rows_done: number;
  rows_planned: number;
  bytes: number;
  progress: number;
  readers: number;
}

export interface BuildLinesAnswer {
  builds: BuildLineAnswer[];
  limit: number;
  next: string | null;
  asked: boolean;
}

export interface StreamLineAnswer {
  stream_id: string;
  owner: string;
  state: string;
  artifact_uri: string | null;
  seconds: number;
}

export interface StreamLinesAnswer {
  streams: StreamLineAnswer[];
  limit: number;
  next: string | null;
  asked: boolean;
}

export interface StoppedAnswer {
  tenant: string;
  chosen: number;
  stopped: number;
}

export interface SeenTableAnswer {
  uri: string;
  resource: string;
  rule: string;
  partial: boolean;
}

export interface SeesAnswer {
  tables: SeenTableAnswer[];
  next_page_token: string | null;
}

export interface RuleChangeAnswer {
  principal: string;
  tenant: string;
  scopes: string[];
  action: string;
  resource: string;
  now: string;
  then: string;
  kind: string;
}

export interface DraftAnswer {
  changes: RuleChangeAnswer[];
  complete: boolean;
  warnings: string[];
  deny: number;
  allow: number;
  default: string;
}

export interface RulesAnswer {
  changed: boolean;
  deny: number;
  allow: number;
  default: string;
  warnings: string[];
}

export interface AccessLineAnswer {
  id: number;
  at: string;
  tenant: string;
  principal: string;
  request_id: string | null;
  action: string;
  outcome: string;
  artifact_uri: string | null;
  rows: number | null;
  bytes: number;
  tables: TableAccessAnswer[];
  tables_cut: boolean;
}

export interface AccessListAnswer {
  entries: AccessLineAnswer[];
  next: number | null;
}

export interface ServerAnswer {
  server_id: string;
  name: string;
  version: string;
  state: string;
  started_at: string;
  seen_at: string;
  config_version: string;
  policy_version: string | null;
  this_server: boolean;
}

export interface ServerListAnswer {
  servers: ServerAnswer[];
}

export interface WorkerAnswer {
  name: string;
  runtime_id: string | null;
  state: string;
  tenants: string[] | null;
  allowances: Record<string, number>;
  max_concurrent: number;
  max_concurrent_per_tenant: number;
  running: number;
  health: string;
  health_checked_at: string | null;
  last_error: string | null;
  probe_count: number;
  healthy_probe_count: number;
  consecutive_failures: number;
  last_probe_duration_ms: number | null;
}

export interface WorkersAnswer {
  workers: WorkerAnswer[];
}
