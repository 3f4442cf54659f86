# Every habit by its name. `just` lists them.

_list:
    @just --list --unsorted

# Bring the code into its layout
fmt:
    cargo fmt --all

# What must not be warned of
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# All tests, or those whose name matches
test *FILTER:
    cargo nextest run --workspace {{FILTER}}

# The base image of the built-in tasks (root; a minute or two, once)
base:
    tasks/base/build.sh

# The built-in tasks by their own solutions
e2e sandbox="process":
    cargo run --release -- eval -d tasks -a oracle -n 16 -k 3 --sandbox {{sandbox}}

# The program killed 20 times in a run, and 30 environments, over "process" or "docker"
chaos sandbox="process":
    ORCAPACK_SANDBOX={{sandbox}} ORCAPACK_CRASHES=20 ORCAPACK_KILLS=30 \
        cargo test --test system crash -- --nocapture

# Actors of teams killed at random: 500 over fake sandboxes, 60 over real ones
chaos-teams:
    ORCAPACK_ROLLOUTS=32 ORCAPACK_KILLS=60 cargo nextest run --test chaos --no-capture

# A cluster of 4 nodes with 256 environments, struck for 5 minutes, and undisturbed (root; 11 minutes)
chaos-cluster:
    ORCAPACK_CLUSTER_SEC=290 cargo test --test cluster at_length -- --nocapture
    ORCAPACK_CLUSTER_STALL_SEC=60 ORCAPACK_CLUSTER_SLOTS=128 \
        cargo test --test cluster stands_still -- --nocapture

# Clusters in simulation: 5,000 seeds of faults, or others, as in `just sim-long 7..8`
sim-long seeds="0..5000":
    ORCAPACK_SEEDS={{seeds}} cargo test --release --test sim quarter -- --nocapture

# What it costs: "rollouts", "agents", "link" or "cluster"; about a minute once it is built
bench which="rollouts":
    cargo bench --bench {{which}}

# Hostile bytes for ten minutes each: "codec" and "lane" (needs nightly and cargo-fuzz)
fuzz target="codec" seconds="600":
    cargo +nightly fuzz run --fuzz-dir tests/fuzz {{target}} -- -max_total_time={{seconds}}

# Licences, bans and advisories of all dependencies (needs cargo-deny)
deny:
    cargo deny --config .deny.toml check

# The documentation of every module
docs:
    cargo doc --workspace --no-deps --document-private-items

# Everything, as a bare machine is asked for it
ci:
    .ci/run
