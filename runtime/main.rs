//! The `orcapack` program: parses the command line, runs one command, ends with a documented exit
//! code.

use std::panic;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use orcapack::cli::{Cli, Command, TasksCommand};
use orcapack::cli_cluster::NodeAction;
use orcapack::config_layers::Host;
use orcapack::exit::{Exit, Failure};
use orcapack::host::raise_open_files;
use orcapack::{
    authority_command, check, compare, curriculum_command, doctor, eval, gc, generate,
    node_command, output, serve_command, sft_command, status_command, tasks_command, train,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A panic has told its place on standard error already.
    let ended = panic::catch_unwind(|| run(cli.command)).unwrap_or(Ok(Exit::Internal));
    ended
        .unwrap_or_else(|failure| {
            eprintln!("error: {failure}");
            failure.exit
        })
        .into()
}

fn run(command: Command) -> Result<Exit, Failure> {
    let host = Host::this();
    if let Err(error) = raise_open_files() {
        eprintln!("warning: the limit of open files cannot be raised: {error}");
    }
    match command {
        Command::Eval(args) => eval::run(&args, &host),
        Command::Train(args) => train::command::run(&args, &host),
        Command::Serve(args) => multi_threaded(serve_command::run(&args, &host)),
        Command::Sft(args) => sft_command::run(&args, &host),
        Command::Compare(args) => compare::run(&args),
        Command::Node(args) => multi_threaded(async {
            match args.action() {
                NodeAction::Run(cluster, args) => node_command::run(cluster, args, &host).await,
                NodeAction::Drain(args) => node_command::drain(args, &host).await,
            }
        }),
        Command::Status(args) => block_on(status_command::run(&args, &host)),
        Command::Cluster(command) => block_on(authority_command::run(&command, &host)),
        Command::Tasks(TasksCommand::List { select, json }) => tasks_command::list(&select, json),
        Command::Tasks(TasksCommand::Import(args)) => tasks_command::import(&args),
        Command::Tasks(TasksCommand::Curriculum(args)) => curriculum_command::cut(&args),
        Command::Tasks(TasksCommand::Generate(args)) => generate::run(&args, &host),
        Command::Tasks(TasksCommand::Check(args)) => check::run(&args, &host),
        Command::Doctor(args) => block_on(doctor::doctor(&args, &host)),
        Command::Gc(args) => block_on(gc::gc(&args, &host)),
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "orcapack", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Runs a command that lives long, or does much at once.
fn multi_threaded(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(command)
}

/// Runs a short command on this thread.
fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("starting the event loop: {error}")))?
        .block_on(command)
}
