use ractor::Actor;

use super::*;
use crate::model::endpoint::tests::{Parent, settings};
use crate::model::literal::Literal;
use crate::model::settings::EndpointKind;

async fn spawn(
    endpoints: &[(&str, EndpointKind)],
    orchestrator: &str,
    coder: &str,
) -> Result<Models, ModelsError> {
    let (parent, _) = Actor::spawn(None, Parent, ()).await.unwrap();
    let endpoints = endpoints
        .iter()
        .map(|(name, kind)| (settings(name, *kind), Arc::new(Literal) as Arc<dyn Model>))
        .collect();
    let names = EndpointNames {
        orchestrator: orchestrator.to_owned(),
        explorer: coder.to_owned(),
        coder: coder.to_owned(),
    };
    Models::spawn(endpoints, &names, &Arc::default(), &parent.get_cell()).await
}

#[tokio::test]
async fn roles_that_name_one_endpoint_share_its_gateway() {
    let endpoints = [("a", EndpointKind::OpenAi), ("b", EndpointKind::Literal)];
    let models = spawn(&endpoints, "a", "b").await.unwrap();
    let id = |role| models.of(role).cell().get_id();
    assert_eq!(id(Role::Explorer), id(Role::Coder));
    assert_ne!(id(Role::Orchestrator), id(Role::Coder));
    assert_eq!(models.of(Role::Coder).settings().name, "b");
}

#[tokio::test]
async fn names_that_do_not_fit_are_refused() {
    let (a, b) = (("a", EndpointKind::OpenAi), ("b", EndpointKind::Literal));
    let c = ("c", EndpointKind::Solution);
    let cases = [
        (vec![a, b], "a", "c", "the explorer's endpoint: expected one of `a`, `b`, found `c`"),
        (vec![], "a", "a", "the orchestrator's endpoint: expected one of none at all, found `a`"),
        (vec![a, b, a], "a", "b", "endpoint `a` is there twice"),
        (
            vec![a, b],
            "b",
            "b",
            "the orchestrator's endpoint: expected a model that can plan, found `b` of kind \
             literal",
        ),
        (
            vec![a, c],
            "a",
            "c",
            "the explorer's endpoint: expected a model that can run commands, found `c` of kind \
             solution",
        ),
    ];
    for (endpoints, orchestrator, coder, expected) in cases {
        let error = spawn(&endpoints, orchestrator, coder).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
