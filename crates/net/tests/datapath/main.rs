//! smoke
use std::time::Instant;
fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == "net-helper") {
        return net::helper(args);
    }
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let config = net::Config {
            helper: vec!["/proc/self/exe".into(), "net-helper".into()],
            uplink: net::Uplink::Host,
            limits: net::Limits {
                upload: Some(1_000_000_000),
                download: Some(1_000_000_000),
                ..Default::default()
            },
            pool: 0,
        };
        let t = Instant::now();
        let router = net::Router::start(config).await.unwrap();
        println!("start {:?} {:?}", t.elapsed(), router.notes());
        for _ in 0..3 {
            let t = Instant::now();
            let ns = router.namespace().await.unwrap();
            println!("namespace {:?}", t.elapsed());
            let t = Instant::now();
            ns.apply(&net::Policy {
                base: net::Base::Internet,
                allow: vec![net::Rule {
                    target: net::Target::Net("10.0.0.0/8".parse().unwrap()),
                    ports: net::Ports::One(80),
                }],
            })
            .await
            .unwrap();
            println!("apply {:?}", t.elapsed());
            let t = Instant::now();
            ns.allow(&[("1.2.3.4".parse().unwrap(), net::Ports::One(80), std::time::Duration::from_secs(3))])
                .await
                .unwrap();
            println!("allow {:?}", t.elapsed());
            let t = Instant::now();
            println!("{:?} {:?}", ns.refused().await, t.elapsed());
        }
        let _ = tokio::process::Command::new("sh")
            .args(["-c", std::env::var("PEEK").unwrap_or("true".into()).as_str()])
            .status()
            .await;
        router.close().await;
    });
    std::process::ExitCode::SUCCESS
}
