//! A lane: whole messages over one stream, in order, with a bound on what waits.
