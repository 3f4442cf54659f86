//! Images are built once per content, and a failed build says why.

use super::*;

/// A context whose image nobody has built yet.
fn fresh_context(bench: &Bench, dockerfile: &str) -> FileTree {
    let mut files = FileTree::default();
    files.insert("Dockerfile", dockerfile.as_bytes(), false);
    files.insert("unique", format!("{} {:?}", bench.run, SystemTime::now()).as_bytes(), false);
    files
}

/// Whether it is gone: an image that a container uses stays.
async fn remove_image(bench: &Bench, image: &Image) -> bool {
    let built = bench.driver.images().await.unwrap();
    let built = built.iter().find(|built| built.tag.as_ref() == Some(&image.reference));
    bench.driver.remove_image(built.expect("it is listed")).await.unwrap()
}

#[tokio::test]
async fn an_image_is_removed_once_no_container_uses_it() {
    let Some(bench) = Bench::new().await else { return };
    let files = fresh_context(&bench, "FROM scratch\nCOPY unique /");
    let image = bench.build(files).await.unwrap();
    let sandbox = bench.driver.create(&image, &bench.spec("1.1.agent")).await.unwrap();
    assert!(!remove_image(&bench, &image).await, "it is in use");
    sandbox.remove().await.unwrap();
    assert!(remove_image(&bench, &image).await);
    let listed = bench.driver.images().await.unwrap();
    assert!(listed.iter().all(|built| built.tag.as_ref() != Some(&image.reference)));
}

#[tokio::test]
async fn twenty_calls_for_one_image_are_one_build() {
    let Some(bench) = Bench::new().await else { return };
    let since = unix_sec().to_string();
    let files = fresh_context(&bench, "FROM scratch\nCOPY unique /");
    let calls = (0..20).map(|_| bench.build(files.clone()));
    let images = future::try_join_all(calls).await.unwrap();
    bench.build(files.clone()).await.unwrap();
    let until = (unix_sec() + 1).to_string();
    assert!(images.iter().all(|image| image.reference == images[0].reference));

    let filters = [("event".to_owned(), vec!["tag".to_owned()])];
    let options = query::EventsOptions {
        since: Some(since),
        until: Some(until),
        filters: Some(filters.into()),
    };
    let events: Vec<_> = bench.engine.events(Some(options)).try_collect().await.unwrap();
    let names = events.iter().filter(|event| event.typ == Some(EventMessageTypeEnum::IMAGE));
    let names = names.filter_map(|event| event.actor.as_ref()?.attributes.as_ref()?.get("name"));
    assert_eq!(names.filter(|name| **name == images[0].reference).count(), 1);
    remove_image(&bench, &images[0]).await;
}

#[tokio::test]
async fn a_failed_build_tells_all_who_wait_and_is_tried_again() {
    let Some(bench) = Bench::new().await else { return };
    let mut files = fresh_context(&bench, "");
    for (path, entry) in machine_files().iter() {
        files.insert_entry(path, entry.clone());
    }
    let dockerfile = "FROM scratch\nCOPY root/ /\nRUN echo the reason why; exit 3\nCOPY unique /";
    files.insert("Dockerfile", dockerfile.as_bytes(), false);
    let (first, second) =
        future::join(bench.build(files.clone()), bench.build(files.clone())).await;
    let error = first.unwrap_err();
    assert_eq!(second.unwrap_err(), error);
    assert_eq!(error.class, FailureClass::Image);
    assert!(error.message.contains("Step 3/"), "{error}");
    assert!(error.message.contains("the reason why"), "{error}");
    assert!(error.message.contains("returned a non-zero code: 3"), "{error}");
    assert_eq!(bench.build(files).await.unwrap_err().class, FailureClass::Image);
}

#[tokio::test]
async fn what_the_builder_refuses_is_named() {
    let Some(bench) = Bench::new().await else { return };
    for (dockerfile, expected) in [
        ("FROM scratch\nINSTALL gcc\n", "unknown instruction: INSTALL"),
        ("FROM scratch\nCOPY no-such-file /\n", "no-such-file"),
        (
            "FROM orcapack/base:0\n",
            "orcapack/base:0 is neither local nor could be pulled; make it with tasks/base/",
        ),
        ("FROM UPPER CASE\n", "FROM requires either one or three arguments"),
        ("FROM what?\n", "\"what?\" is not an image reference"),
    ] {
        let error = bench.build(fresh_context(&bench, dockerfile)).await.unwrap_err();
        assert_eq!(error.class, FailureClass::Image, "{error}");
        assert!(error.message.contains(expected), "{dockerfile}: {error}");
    }
    let error = bench.build(FileTree::default()).await.unwrap_err();
    assert_eq!(error.message, "the build context has no Dockerfile");
}

#[tokio::test]
async fn a_build_past_its_time_limit_is_cancelled_in_the_engine() {
    let Some(bench) = Bench::new().await else { return };
    let mut files = machine_files();
    let dockerfile = format!("FROM scratch\nCOPY root/ /\nRUN : {}; sleep 100000\n", bench.run);
    files.insert("Dockerfile", dockerfile.as_bytes(), false);
    let source = ImageSource::Dockerfile(files);
    let spec = ImageSpec { source, build_timeout: Duration::from_secs(6) };
    let error = bench.driver.image(&spec).await.unwrap_err();
    assert_eq!(error.class, FailureClass::Image);
    assert!(error.message.contains("not done after 6 s; at Step 3/"), "{error}");
    let deadline = Instant::now() + SOON;
    loop {
        let containers = bench.engine.list_containers(None).await.unwrap();
        let commands = containers.into_iter().filter_map(|container| container.command);
        if !commands.into_iter().any(|command| command.contains(&bench.run)) {
            break;
        }
        assert!(Instant::now() < deadline, "the builder's container lives on");
        // The classic builder tells nobody when it has stopped its container: polled.
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_context_holds_what_the_task_put_there_but_for_the_ignored() {
    let Some(bench) = Bench::new().await else { return };
    let mut files = machine_files();
    let dockerfile = "FROM scratch\nCOPY root/ /\nCOPY . /context/";
    files.insert("Dockerfile", dockerfile.as_bytes(), false);
    files.insert(".dockerignore", b"secret\nDockerfile\n", false);
    files.insert("secret/solution", b"", false);
    files.insert("open/file", b"", false);
    let image = bench.build(files).await.unwrap();
    let sandbox = bench.driver.create(&image, &bench.spec("1.1.agent")).await.unwrap();
    assert_eq!(said(&*sandbox, "ls -A /context").await, ".dockerignore\nopen\nroot\n");
    bench.sweep().await;
}

#[tokio::test]
async fn a_prebuilt_image_is_taken_as_it_is() {
    let Some(bench) = Bench::new().await else { return };
    let prebuilt = bench.image().await;
    let source = ImageSource::Prebuilt(prebuilt.reference.clone());
    let spec = ImageSpec { source, build_timeout: BUILD_TIMEOUT };
    let image = bench.driver.image(&spec).await.unwrap();
    assert_eq!((&image.workdir, &image.user), (&prebuilt.workdir, &prebuilt.user));
    assert_eq!(image.env, prebuilt.env);
    let sandbox = bench.driver.create(&image, &bench.spec("1.1.agent")).await.unwrap();
    assert_eq!(said(&*sandbox, "id -u").await, "1000\n");
    bench.sweep().await;
}

#[tokio::test]
async fn images_are_listed_and_facts_are_told() {
    let Some(bench) = Bench::new().await else { return };
    let image = bench.image().await;
    let listed = bench.driver.images().await.unwrap();
    assert!(listed.iter().any(|built| built.tag.as_ref() == Some(&image.reference)));
    assert!(listed.iter().flat_map(|built| &built.tag).all(|tag| tag.starts_with("orcapack/env:")));
    let facts = bench.driver.facts().await.unwrap();
    assert!(facts.images.contains(&image.reference));
    assert!(facts.cpus >= 1.0 && facts.memory_bytes > 0 && facts.bridge_networks >= 1, "{facts:?}");
    let engine = bench.engine.version().await.unwrap();
    assert_eq!(Some(facts.version), engine.version);
}
