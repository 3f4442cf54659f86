//! The whole system: the real program over real sandboxes. The sandboxes of the `process` driver
//! need root; what needs a Docker engine is skipped where none answers.

mod crash;
mod eval;
mod hostile;
mod program;
