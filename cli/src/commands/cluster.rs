//! `cluster`: nodes, roles, logs; who leads.

use kv_api::admin::{ClusterStatus, NodeStatus, Role};

use super::Context;
use crate::args::Cluster;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::progress::message;
use crate::table::{Align, Table};

/// Runs the command.
///
/// # Errors
/// No node answers.
pub async fn run(command: &Cluster, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        Cluster::Status => status(context).await,
        Cluster::TransferLeader { id } => transfer_leader(*id, context).await,
    }
}

async fn transfer_leader(id: u64, context: &mut Context) -> Result<Exit, Failure> {
    connect::client(&context.global)?.admin().transfer_leader(id).await?;
    if context.out.is_json() {
        context.out.json(&serde_json::json!({ "leader_id": id }))?;
    } else {
        context.out.line(&format!("node {id} leads"))?;
    }
    Ok(Exit::Ok)
}

async fn status(context: &mut Context) -> Result<Exit, Failure> {
    let client = connect::client(&context.global)?;
    let status = client.admin().cluster_status().await?;
    if context.out.is_json() {
        context.out.json(&status)?;
    } else {
        table(&status, context)?;
    }
    if status.leader_id.is_none() {
        message("there is no leader: writes wait until a majority of the nodes is up");
        return Ok(Exit::Unhealthy);
    }
    Ok(Exit::Ok)
}

fn table(status: &ClusterStatus, context: &mut Context) -> Result<(), Failure> {
    let leader = status.leader_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    context.out.line(&format!("cluster {}  leader {leader}", status.cluster_id))?;
    let numbers = ["TERM", "FIRST LOG", "LAST LOG", "COMMITTED", "APPLIED", "FLUSHED"];
    let numbers = numbers.map(|name| (name, Align::Right));
    let columns = [("ID", Align::Right), ("ADDR", Align::Left), ("ROLE", Align::Left)];
    let mut table = Table::new(&[&columns[..], &numbers[..]].concat());
    for node in &status.nodes {
        table.row(&mut context.out, row(node))?;
    }
    table.end(&mut context.out)
}

fn row(node: &NodeStatus) -> Vec<String> {
    let NodeStatus { id, addr, role, term, first_log, last_log, committed, applied, flushed, .. } = node;
    let mut cells = vec![id.to_string(), addr.clone(), name(*role).to_owned()];
    cells.extend([term, first_log, last_log, committed, applied, flushed].map(u64::to_string));
    cells
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Down => "down",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_roles_are_those_of_the_json_form() {
        for role in [Role::Leader, Role::Follower, Role::Candidate, Role::Learner, Role::Down] {
            assert_eq!(serde_json::to_value(role).expect("JSON"), name(role));
        }
    }

    #[test]
    fn the_json_form_is_the_contract() {
        let node = NodeStatus {
            id: 1,
            addr: "127.0.0.1:7400".into(),
            role: Role::Leader,
            term: 2,
            first_log: 3,
            last_log: 9,
            committed: 8,
            applied: 7,
            flushed: 6,
            log_time: 5,
        };
        let status = ClusterStatus { cluster_id: "ab".into(), leader_id: None, nodes: vec![node] };
        let json = serde_json::to_value(&status).expect("JSON");
        assert!(json["leader_id"].is_null());
        let node = &json["nodes"][0];
        assert_eq!(
            (&node["id"], &node["addr"], &node["role"]),
            (&1.into(), &"127.0.0.1:7400".into(), &"leader".into())
        );
        assert_eq!((&node["last_log"], &node["applied"]), (&9.into(), &7.into()));
    }
}
