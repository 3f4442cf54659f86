//! Asks the models behind the authors.

use std::sync::Arc;
use std::time::Duration;

use orcapack_actors::model::desk::Desk;
use orcapack_actors::model::endpoint::Called;
use orcapack_actors::model::{
    self, CallKey, Finish, Message, ModelErrorKind, Request, Speaker, Usage,
};
use orcapack_tasks::authoring::Author;
use orcapack_tasks::authoring::life::Life;
use orcapack_tasks::authoring::line::{Answer, Event, Tokens};
use tokio::time::Instant;

use crate::exit::{Exit, Failure};
use crate::generate::plan::Plan;

/// Of one call, with all of its tries: an endpoint that is away longer will not be back soon.
const CALL_LIMIT: Duration = Duration::from_secs(1800);

pub struct Authors<'p> {
    plan: &'p Plan,
    desk: Desk,
}

impl<'p> Authors<'p> {
    /// # Errors
    /// When the actor system refuses.
    pub async fn open(plan: &'p Plan) -> Result<Self, Failure> {
        let desk = Desk::open(plan.endpoints.clone(), &Arc::default()).await;
        let refused = |error| Failure::internal(format!("the endpoints do not start: {error}"));
        Ok(Self { plan, desk: desk.map_err(refused)? })
    }

    /// Has an author go on with its conversation about a task. Dropping the future gives it up.
    ///
    /// # Errors
    /// The endpoint does not answer, after as many tries as it has.
    pub async fn ask(&self, task: u32, author: Author, life: &Life) -> Result<Event, Failure> {
        let name = self.plan.name_of(author);
        let lacking = || Failure::internal(format!("no endpoint {name}"));
        let endpoint = self.desk.endpoint(name).ok_or_else(lacking)?;
        let turn = life.turn(author);
        let messages = messages(author, life.talk(author));
        let request = Request {
            key: CallKey { rollout: task, attempt: 1, step: 0, agent: author as u32, turn },
            instruction: messages.last().map(|last| last.content.clone()).unwrap_or_default(),
            messages,
            max_tokens: self.plan.answer_tokens_max,
            policy_version: 0,
            scripts: None,
        };
        match endpoint.ask(&request, Instant::now() + CALL_LIMIT).await {
            Ok(Called { answer, facts }) => {
                Ok(Event::Answer(answered(author, turn, answer, facts.cost_usd)))
            }
            // Of this conversation alone: it has grown too long.
            Err(error) if error.error.kind == ModelErrorKind::ContextOverflow => {
                Ok(Event::Unanswered { author, reason: error.to_string() })
            }
            Err(error) => {
                let message = format!(
                    "the {} of task {task} was not answered: {error}; the same command goes on \
                     from there",
                    author.as_str()
                );
                Err(Failure::new(Exit::InfrastructureFailures, message))
            }
        }
    }
}

fn messages(author: Author, talk: &[String]) -> Vec<Message> {
    let speakers = [Speaker::User, Speaker::Assistant].into_iter().cycle();
    let turns = speakers.zip(talk).map(|(role, text)| Message::new(role, text.as_str()));
    [Message::new(Speaker::System, author.system())].into_iter().chain(turns).collect()
}

fn answered(author: Author, turn: u32, answer: model::Answer, cost_usd: Option<f64>) -> Answer {
    let Usage { prompt_tokens, completion_tokens, cached_tokens } = answer.usage;
    Answer {
        author,
        turn,
        text: answer.text,
        reasoning: answer.reasoning,
        is_cut: answer.finish == Finish::Length,
        tokens: Tokens {
            prompt: prompt_tokens,
            completion: completion_tokens,
            cached: cached_tokens,
        },
        model: answer.model,
        cost_usd,
    }
}
