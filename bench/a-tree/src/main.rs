//! The crate a-tree over a workload of bench/w1: a-tree DIRECTORY SUBSCRIPTIONS EVENTS, JSON on standard output. Only
//! the search is timed, on events that are built beforehand. It has no operator for prefixes: those subscriptions are
//! left out.

use a_tree::{ATree, AttributeDefinition, Event};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::Instant;

fn lines(directory: &str, name: &str, count: usize) -> Vec<Value> {
    let file = File::open(format!("{directory}/{name}")).expect("open the workload");
    let parse = |line: std::io::Result<String>| serde_json::from_str(&line.unwrap()).unwrap();
    BufReader::new(file).lines().take(count).map(parse).collect()
}

/// The collection goes last: the other order takes it longer.
fn expression(sub: &Value) -> String {
    let cel = sub["cel"].as_str().unwrap();
    let own = cel.replace("doc.author.id", "author_id").replace("doc.", "").replace("==", "=");
    format!("({own}) and collection = {}", sub["collection"])
}

fn event(tree: &ATree<u64>, line: &Value) -> Event {
    let doc = &line["doc"];
    let mut builder = tree.make_event();
    let mut text = |name, value: &Value| match value.as_str() {
        Some(text) => builder.with_string(name, text).unwrap(),
        None => builder.with_undefined(name).unwrap(),
    };
    text("collection", &line["collection"]);
    text("user_id", &doc["user_id"]);
    text("author_id", &doc["author"]["id"]);
    text("status", &doc["status"]);
    text("tag", &doc["tag"]);
    match doc["price"].as_f64() {
        Some(price) => builder.with_float("price", (price * 100.0).round() as i64, 2).unwrap(),
        None => builder.with_undefined("price").unwrap(),
    }
    builder.build().unwrap()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| arguments[at].parse::<usize>().expect("a number");
    let subs = lines(&arguments[1], "subs.ndjson", number(2));
    let lines = lines(&arguments[1], "events.ndjson", number(3));
    let mut attributes: Vec<_> = ["collection", "user_id", "author_id", "status", "tag"]
        .iter()
        .map(|name| AttributeDefinition::string(name))
        .collect();
    attributes.push(AttributeDefinition::float("price"));
    let mut tree = ATree::<u64>::new(&attributes).unwrap();
    // It loses matches of "in" whose strings it did not first meet in their order: let it meet them.
    let tags: Vec<String> = (0..200).map(|tag| format!("\"tag{tag:03}\"")).collect();
    let all = format!("tag in [{}] and collection = \"none\"", tags.join(", "));
    tree.insert(&0, &all).unwrap();
    let start = Instant::now();
    let mut kept = 0;
    for sub in subs.iter().filter(|sub| sub["kind"] != "prefix") {
        tree.insert(&sub["id"].as_u64().unwrap(), &expression(sub)).expect("an expression");
        kept += 1;
    }
    let build = start.elapsed().as_secs_f64();
    let events: Vec<Event> = lines.iter().map(|line| event(&tree, line)).collect();
    let mut times: Vec<f64> = Vec::new();
    let mut matches = 0;
    for event in &events {
        let start = Instant::now();
        matches += tree.search(event).unwrap().matches().len();
        times.push(start.elapsed().as_nanos() as f64);
    }
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    times.sort_by(f64::total_cmp);
    println!(
        "{{\"subscriptions\": {kept}, \"events\": {}, \"matches\": {matches}, \"build_s\": {build:.3}, \
         \"mean_ns\": {mean:.0}, \"p50_ns\": {:.0}, \"p99_ns\": {:.0}}}",
        times.len(), times[times.len() / 2], times[times.len() * 99 / 100]
    );
}
