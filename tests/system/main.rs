//! The whole system: the real program over real sandboxes. The sandboxes of the `process` driver
//! need root; what needs a Docker engine is skipped where none answers.

#[expect(dead_code, reason = "the models' tests use the rest")]
#[path = "../support/anthropic_server.rs"]
mod anthropic_server;
mod compare;
mod crash;
mod curriculum;
mod eval;
mod generate;
mod hostile;
#[expect(dead_code, reason = "the models' tests use the rest")]
#[path = "../support/http_server.rs"]
mod http_server;
#[expect(dead_code, reason = "the models' tests use the rest")]
#[path = "../support/openai_server.rs"]
mod openai_server;
#[path = "../support/policy.rs"]
mod policy;
mod policy_flag;
mod program;
mod team;
mod team_bench;
mod team_faults;
mod team_kinds;
mod team_script;
#[expect(dead_code, reason = "the models' tests use the rest")]
#[path = "../support/token_servers.rs"]
mod token_servers;
