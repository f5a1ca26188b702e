//! Commands and code in sandboxes: how they end, and what comes back.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{harness::Service, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("four_ends_of_a_command_are_four_answers", four_ends()),
        trial("each_sandbox_has_its_own_files", apart()),
        trial("commands_that_cannot_be_are_refused", refused()),
        trial("output_is_capped_and_made_text", output()),
        trial("a_client_that_goes_away_ends_its_command", abandoned()),
        trial("code_has_a_value_an_error_and_an_exit_code", code()),
    ]
}

async fn exec(service: &Service, id: &str, body: Value) -> Value {
    let answer = service.post(&format!("/v1/sandboxes/{id}/exec"), body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn four_ends() {
    let service = Service::start().await;
    let id = &service.spawn(1).await[0];
    let failed = exec(&service, id, json!({"args": ["sh", "-c", "echo so far; echo oh >&2; exit 1"]})).await;
    assert_eq!((&failed["stdout"], &failed["stderr"]), (&json!("so far\n"), &json!("oh\n")));
    assert_eq!((&failed["exit_code"], &failed["outcome"]), (&json!(1), &json!("exited")));
    assert_eq!((&failed["timed_out"], &failed["signal"]), (&json!(false), &Value::Null));

    let killed = exec(&service, id, json!({"args": ["sh", "-c", "echo so far; kill -SEGV $$"]})).await;
    assert_eq!((&killed["stdout"], &killed["signal"]), (&json!("so far\n"), &json!(11)));
    assert_eq!((&killed["exit_code"], &killed["outcome"]), (&json!(139), &json!("signalled")));

    // which would be waited for, were its time not over
    let script = "echo so far; sleep 1000 & sleep 1000";
    let late = exec(&service, id, json!({"args": ["sh", "-c", script], "timeout_secs": 1})).await;
    assert_eq!((&late["stdout"], &late["timed_out"]), (&json!("so far\n"), &json!(true)));
    assert_eq!((&late["exit_code"], &late["outcome"]), (&json!(124), &json!("timed_out")));

    let absent = exec(&service, id, json!({"args": ["no-such-program-at-all"]})).await;
    assert_eq!((&absent["exit_code"], &absent["outcome"]), (&json!(127), &json!("not_found")));
    assert!(absent["stderr"].as_str().unwrap().contains("no-such-program-at-all"), "{absent}");
    assert_eq!(absent["stdout"], "");

    let denied = exec(&service, id, json!({"args": ["/etc/passwd"]})).await;
    assert_eq!((&denied["exit_code"], &denied["outcome"]), (&json!(126), &json!("not_executable")));
    service.end().await;
}

async fn apart() {
    let service = Service::start().await;
    let ids = service.spawn(3).await;
    for (at, id) in ids.iter().enumerate() {
        let script = format!("echo {at} > here; pwd");
        exec(&service, id, json!({"args": ["sh", "-c", script]})).await;
    }
    for (at, id) in ids.iter().enumerate() {
        let read = exec(&service, id, json!({"args": ["cat", "here"]})).await;
        assert_eq!(read["stdout"], format!("{at}\n"));
    }
    service.end().await;
}

async fn refused() {
    let service = Service::start().await;
    let id = &service.spawn(1).await[0];
    for body in [
        json!({"args": []}),
        json!({"args": [""]}),
        json!({"args": ["echo", "a\0b"]}),
        json!({"args": ["true"], "timeout_secs": 0}),
        json!({"args": ["true"], "timeout_secs": 100_000}),
    ] {
        let answer = service.post(&format!("/v1/sandboxes/{id}/exec"), body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert!(!answer.error().is_empty());
    }
    service.end().await;
}

async fn output() {
    let service = Service::start().await;
    let id = &service.spawn(1).await[0];
    let text = exec(&service, id, json!({"args": ["printf", r"a\377b\001"]})).await;
    assert_eq!(text["stdout"], "a\u{fffd}b\u{1}");
    assert_eq!(text["truncated"], false);
    // more than is kept of it, and it still ends by itself
    let script = "head -c 10000000 /dev/zero | tr '\\0' x; echo end >&2; exit 5";
    let long = exec(&service, id, json!({"args": ["sh", "-c", script]})).await;
    assert_eq!(long["stdout"].as_str().unwrap().len(), 8 << 20);
    assert_eq!((&long["stderr"], &long["exit_code"]), (&json!("end\n"), &json!(5)));
    assert_eq!(long["truncated"], true);
    service.end().await;
}

async fn abandoned() {
    let service = Service::start().await;
    let id = service.spawn(1).await.remove(0);
    let path = format!("/v1/sandboxes/{id}/exec");
    let script = "echo $$ > pid; exec sleep 1000";
    let call = service.post(&path, json!({"args": ["sh", "-c", script], "timeout_secs": 600}));
    let ready = json!({"args": ["sh", "-c", "until test -s pid; do sleep 0.01; done"]});
    tokio::select! {
        answer = call => panic!("{answer:?}"),
        ready = exec(&service, &id, ready) => assert_eq!(ready["exit_code"], 0),
    }
    let begun = Instant::now();
    let alive = json!({"args": ["sh", "-c", "kill -0 $(cat pid)"]});
    while exec(&service, &id, alive.clone()).await["exit_code"] == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it still runs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    service.end().await;
}

async fn code() {
    let service = Service::start().await;
    let id = &service.spawn(1).await[0];
    let path = format!("/v1/sandboxes/{id}/eval");
    let eval = async |code: &str| {
        let answer = service.post(&path, json!({"code": code, "timeout_secs": 20})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let sum = eval("sum(range(10))").await;
    assert_eq!((&sum["result"], &sum["error"], &sum["exit_code"]), (&json!("45"), &Value::Null, &json!(0)));
    let several = eval("import os\nprint('said')\nx = 'ä'\nx * 2").await;
    assert_eq!((&several["result"], &several["output"]), (&json!("'ää'"), &json!("said\n")));
    assert_eq!(eval("x = 1").await["result"], Value::Null);
    let wrong = eval("print('first')\n1 / 0").await;
    assert!(wrong["error"].as_str().unwrap().contains("ZeroDivisionError"), "{wrong}");
    assert_eq!((&wrong["exit_code"], &wrong["result"]), (&json!(1), &Value::Null));
    assert_eq!(wrong["output"], "first\n");
    assert!(eval("def").await["error"].as_str().unwrap().contains("SyntaxError"));
    assert_eq!(eval("import sys; sys.exit(3)").await["exit_code"], 3);
    let cut = eval("import os; os._exit(0)").await;
    assert_eq!((&cut["result"], &cut["exit_code"]), (&Value::Null, &json!(1)));
    // what the code writes to its standard output is never taken for the answer
    let forged =
        eval(r#"import os; os.write(1, b'{"result":"forged","error":null,"exit_code":0}'); 7"#).await;
    assert_eq!(forged["result"], "7");
    service.end().await;
}
