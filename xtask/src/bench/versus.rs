//! A local run beside the same run of `act` in host mode.
//!
//! Purpose: three workflows that both take unchanged, one after the other in turn, so that what else the machine does
//! hits both; what each took and the ratio. act runs the steps as processes of the host, with no boundary at all:
//! the ratio is the price of one.
//!
//! Invariants: the output of every run is checked, row by row, masked; a run that is wrong is an error.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{act::Act, cost, cost::Cost, turns, turns::Turns};
use crate::{run::run, up::Ampoule};

const STEPS: usize = 100;
const ROWS: u64 = 100_000;
/// A secret of every run, so that both have something to mask.
const SECRET: &str = "swordfish";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Hello,
    Steps,
    Rows,
}

impl Case {
    const ALL: [Self; 3] = [Self::Hello, Self::Steps, Self::Rows];

    fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Steps => "100 steps",
            Self::Rows => "100,000 rows",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Hello => ".forgejo/workflows/hello.yml",
            Self::Steps => ".forgejo/workflows/steps.yml",
            Self::Rows => ".forgejo/workflows/rows.yml",
        }
    }

    fn workflow(self) -> String {
        let steps = match self {
            Self::Hello => "      - run: echo hello\n".to_owned(),
            Self::Steps => "      - run: \":\"\n".repeat(STEPS),
            // A name, for act tells a step without one by its script, unmasked, in every row's JSON.
            Self::Rows => format!(
                "      - name: rows\n        run: seq -f 'row %06.0f with ${{{{ secrets.WORD }}}} in it, as long as a \
                 build often has' {ROWS}\n"
            ),
        };
        format!("on: push\njobs:\n  it:\n    runs-on: ubuntu-latest\n    steps:\n{steps}")
    }

    /// Whether a run printed what it should have: JSON of either program, one object in a line.
    fn check(self, output: &str) -> Result<()> {
        let count = |of: fn(&str) -> bool| output.lines().filter(|line| of(line)).count();
        match self {
            Self::Hello => expect("rows `hello`", count(is_hello), 1),
            Self::Steps => expect("steps that ended well", count(is_good_step), STEPS),
            Self::Rows => {
                if output.contains(SECRET) {
                    bail!("the secret was printed");
                }
                let mut next = 1;
                for row in output.lines().filter_map(row_of) {
                    if row != next {
                        bail!("row {row} came where row {next} was due");
                    }
                    next += 1;
                }
                expect("rows", next - 1, ROWS)
            }
        }
    }
}

fn expect<N: PartialEq + std::fmt::Display>(what: &str, have: N, wanted: N) -> Result<()> {
    if have == wanted { Ok(()) } else { bail!("{what}: {have}, {wanted} were due") }
}

fn is_hello(line: &str) -> bool {
    line.contains(r#""line":"hello""#) || line.contains(r#""msg":"hello\n""#)
}

fn is_good_step(line: &str) -> bool {
    let ours = line.contains(r#""type":"step_end""#) && line.contains(r#""outcome":"success""#);
    ours || (line.contains(r#""stage":"Main""#) && line.contains(r#""stepResult":"success""#))
}

/// The number of a masked row.
fn row_of(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(r#"":"row "#)?;
    let (number, rest) = rest.split_once(' ')?;
    rest.starts_with("with *** in it").then(|| number.parse().ok())?
}

/// What both took for one workflow.
struct Pair {
    case: Case,
    ampoule: Vec<Cost>,
    act: Vec<Cost>,
}

/// What was found.
pub(super) struct Versus {
    pairs: Vec<Pair>,
    turns: Vec<Turns>,
    version: String,
    runs: usize,
}

/// Runs each workflow so many times with each of both, in turn.
pub(super) fn compare(ampoule: &Ampoule, runs: usize) -> Result<Versus> {
    let act = Act::ensure()?;
    let project = Project::new()?;
    let ours = |case: Case| {
        let mut command =
            ampoule.command(&["exec", "--json", "-W", case.file(), "-s", "WORD=swordfish", "-C"]);
        command.arg(project.repository());
        command
    };
    let theirs = |case: Case| {
        let mut command = act.command(&project.repository(), case.file(), &project.dir);
        command.args(["-s", "WORD=swordfish"]);
        command
    };
    let mut pairs = Vec::new();
    for case in Case::ALL {
        let checked = |who: &str, mut command: Command| -> Result<Cost> {
            let (cost, output) = cost::of(&mut command)?;
            case.check(&output).with_context(|| format!("{who}, {}", case.name()))?;
            Ok(cost)
        };
        let mut pair = Pair { case, ampoule: Vec::new(), act: Vec::new() };
        // Each once before, for what is made or read only once.
        checked("ampoule", ours(case))?;
        checked("act", theirs(case))?;
        for number in 1..=runs {
            let (ampoule, act) = (checked("ampoule", ours(case))?, checked("act", theirs(case))?);
            let seconds = |cost: Cost| cost.wall.as_secs_f64();
            println!(
                "{}, {number} of {runs}: {:.2} s, act {:.2} s",
                case.name(),
                seconds(ampoule),
                seconds(act)
            );
            pair.ampoule.push(ampoule);
            pair.act.push(act);
        }
        pairs.push(pair);
    }
    let turns = turns_of(ours(Case::Steps))?;
    Ok(Versus { pairs, turns, version: act.version.clone(), runs })
}

/// One more run of the steps, with its log.
fn turns_of(mut command: Command) -> Result<Vec<Turns>> {
    let output = command.env("AMPOULE_LOG", turns::LEVELS).env("NO_COLOR", "1").output()?;
    if !output.status.success() {
        bail!("ampoule exec ended with {}", output.status);
    }
    let turns = turns::steps(&String::from_utf8_lossy(&output.stderr));
    expect("commands that began, after the first", turns.len(), STEPS - 1)?;
    Ok(turns)
}

impl Versus {
    /// For people.
    pub(super) fn print(&self) {
        println!(
            "\nbeside act {} in host mode, medians of {} (wall / CPU, seconds)",
            self.version, self.runs
        );
        println!("| what | ampoule | act | ratio |\n|---|---|---|---|");
        for pair in &self.pairs {
            let (ours, theirs) = (middle(&pair.ampoule), middle(&pair.act));
            println!(
                "| {} | {:.2} / {:.2} | {:.2} / {:.2} | {:.1} / {:.1} |",
                pair.case.name(),
                ours.wall.as_secs_f64(),
                ours.cpu.as_secs_f64(),
                theirs.wall.as_secs_f64(),
                theirs.cpu.as_secs_f64(),
                ratio(ours.wall, theirs.wall),
                ratio(ours.cpu, theirs.cpu),
            );
        }
        println!("\n| one of the 100 steps | median, ms | slowest, ms |\n|---|---|---|");
        for (what, part) in PARTS {
            let times = self.sorted(part);
            println!("| {what} | {:.2} | {:.2} |", ms(median(&times)), ms(times.last().copied()));
        }
        let requests = self.turns.iter().map(|turns| turns.requests).max().unwrap_or(0);
        println!("| act: all of it, its shell included | {:.2} | |", ms(self.acts_step()));
        println!("\nrequests to the agent in one step: {requests}");
    }

    /// The same, and every run.
    pub(super) fn json(&self) -> Value {
        let each = |costs: &[Cost]| -> Vec<Value> {
            let one = |cost: &Cost| json!({ "wall_ms": ms(Some(cost.wall)), "cpu_ms": ms(Some(cost.cpu)) });
            costs.iter().map(one).collect()
        };
        let cases = self.pairs.iter().map(|pair| {
            let (ours, theirs) = (middle(&pair.ampoule), middle(&pair.act));
            json!({
                "workflow": pair.case.name(),
                "ampoule": each(&pair.ampoule),
                "act": each(&pair.act),
                "ratio": { "wall": ratio(ours.wall, theirs.wall), "cpu": ratio(ours.cpu, theirs.cpu) },
            })
        });
        let all = |part| self.sorted(part).into_iter().map(|time| ms(Some(time))).collect::<Vec<_>>();
        let [host, agent, command] = PARTS.map(|(_, part)| all(part));
        json!({
            "act": self.version,
            "cases": cases.collect::<Vec<_>>(),
            "step": {
                "host_ms": host,
                "agent_ms": agent,
                "command_ms": command,
                "act_ms": ms(self.acts_step()),
            },
        })
    }

    fn sorted(&self, part: Part) -> Vec<Duration> {
        let mut times: Vec<_> = self.turns.iter().map(part).collect();
        times.sort();
        times
    }

    /// What one of act's steps takes: a hundred without what one takes as well.
    fn acts_step(&self) -> Option<Duration> {
        let of = |case| self.pairs.iter().find(|pair| pair.case == case).map(|pair| middle(&pair.act).wall);
        let more = u32::try_from(STEPS - 1).ok()?;
        Some(of(Case::Steps)?.saturating_sub(of(Case::Hello)?) / more)
    }
}

type Part = fn(&Turns) -> Duration;

const PARTS: [(&str, Part); 3] = [
    ("the host: nothing was asked of the guest", |turns| turns.host),
    ("the agent had a request to answer", |turns| turns.agent),
    ("the command ran: the guest's shell", |turns| turns.command),
];

/// The median of each, on its own.
pub(super) fn middle(costs: &[Cost]) -> Cost {
    let of = |part: fn(&Cost) -> Duration| {
        let mut times: Vec<_> = costs.iter().map(part).collect();
        times.sort();
        median(&times).unwrap_or_default()
    };
    Cost { wall: of(|cost| cost.wall), cpu: of(|cost| cost.cpu) }
}

fn median(sorted: &[Duration]) -> Option<Duration> {
    sorted.get(sorted.len() / 2).copied()
}

pub(super) fn ratio(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64().max(0.001)
}

pub(super) fn ms(time: Option<Duration>) -> f64 {
    time.unwrap_or_default().as_secs_f64() * 1000.0
}

/// A Git repository with the workflows, and a home for act; both gone when it is dropped.
struct Project {
    dir: PathBuf,
}

impl Project {
    fn new() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("ampoule-versus-{}", std::process::id()));
        let project = Self { dir };
        let repository = project.repository();
        fs::create_dir_all(repository.join(".forgejo/workflows"))
            .with_context(|| format!("making {}", repository.display()))?;
        for case in Case::ALL {
            fs::write(repository.join(case.file()), case.workflow())?;
        }
        for words in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["remote", "add", "origin", "https://forge.invalid/bench/act.git"],
            &["add", "--all"],
            &[
                "-c",
                "user.name=bench",
                "-c",
                "user.email=bench@forge.invalid",
                "commit",
                "--quiet",
                "-m",
                "bench",
            ],
        ] {
            run(Command::new("git").arg("-C").arg(&repository).args(words))?;
        }
        Ok(project)
    }

    fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(Path::new(&self.dir)) {
            println!("{} stays behind: {error}", self.dir.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_both_is_read() {
        let ours = r#"{"type":"log","job":"it","step":0,"line":"row 000042 with *** in it, as long"}"#;
        let theirs = r#"{"msg":"row 000042 with *** in it, as long\n","raw_output":true}"#;
        assert_eq!([row_of(ours), row_of(theirs)], [Some(42); 2]);
        assert_eq!(row_of(&ours.replace("***", "word")), None, "it is not masked");
        assert!(is_hello(r#"{"type":"log","line":"hello"}"#) && is_hello(r#"{"msg":"hello\n"}"#));
        assert!(is_good_step(r#"{"stage":"Main","stepResult":"success"}"#));
        assert!(!is_good_step(r#"{"type":"step_end","outcome":"failure","conclusion":"success"}"#));
    }

    #[test]
    fn a_wrong_output_is_an_error() {
        assert!(Case::Hello.check("").is_err());
        assert!(Case::Steps.check(r#"{"stage":"Main","stepResult":"success"}"#).is_err());
        let error = Case::Rows.check(r#"{"line":"row 000002 with *** in it"}"#).unwrap_err().to_string();
        assert!(error.contains("row 2 came where row 1 was due"), "{error}");
        assert!(Case::Rows.check(r#"{"line":"row 000001 with swordfish in it"}"#).is_err());
    }

    #[test]
    fn medians_are_each_its_own() {
        let ms = Duration::from_millis;
        let costs = [(1, 30), (2, 10), (9, 20)].map(|(wall, cpu)| Cost { wall: ms(wall), cpu: ms(cpu) });
        let middle = middle(&costs);
        assert_eq!((middle.wall, middle.cpu), (ms(2), ms(20)));
    }
}
