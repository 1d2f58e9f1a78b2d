//! A client's connections to the brokers of a cluster: who leads, who coordinates, and all of it anew after a failure.

use crate::common::Client;
use crate::common::transactional::Transactional;
use ottla::wire::messages::{FindCoordinatorRequest, MetadataRequest, TopicName};
use ottla::wire::text;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::time::Duration;

pub const TOPIC: &str = "history";

pub struct Net {
    bootstrap: Vec<u16>,
    clients: HashMap<u16, Client>,
    /// Ports of the partitions' leaders, as they were last heard of.
    leaders: Vec<u16>,
    turn: usize,
}

fn connect(port: u16) -> io::Result<Client> {
    let client = Client::connect(port)?;
    client.stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(client)
}

impl Net {
    pub fn new(bootstrap: &[u16]) -> Net {
        Net { bootstrap: bootstrap.to_vec(), clients: HashMap::new(), leaders: Vec::new(), turn: 0 }
    }

    /// Asks one broker. `None`: nobody knows what became of it.
    pub fn ask<T>(&mut self, port: u16, ask: impl FnOnce(&mut Client) -> io::Result<T>) -> Option<T> {
        let client = match self.clients.entry(port) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => match connect(port) {
                Ok(client) => new.insert(client),
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(20));
                    return None;
                }
            },
        };
        match ask(client) {
            Ok(answer) => Some(answer),
            Err(_) => {
                self.clients.remove(&port);
                None
            }
        }
    }

    /// Asks some broker, another one each time that one fails.
    pub fn any<T>(&mut self, ask: impl FnOnce(&mut Client) -> io::Result<T>) -> Option<T> {
        let port = self.bootstrap[self.turn % self.bootstrap.len()];
        let answer = self.ask(port, ask);
        if answer.is_none() {
            self.turn += 1;
        }
        answer
    }

    pub fn leader(&mut self, partition: i32) -> Option<u16> {
        if self.leaders.is_empty() {
            self.leaders = self.find_leaders()?;
        }
        let port = self.leaders.get(partition as usize).copied().filter(|port| *port != 0);
        if port.is_none() {
            self.forget_leaders();
        }
        port
    }

    /// What was heard of leaders is not true any more. The next one to ask is another broker, which may know better.
    pub fn forget_leaders(&mut self) {
        self.leaders.clear();
        self.turn += 1;
        std::thread::sleep(Duration::from_millis(2));
    }

    /// The port of each partition's leader, 0 for none.
    fn find_leaders(&mut self) -> Option<Vec<u16>> {
        let found = self.any(|client| {
            let name = Some(TopicName(text(TOPIC)));
            let topic = ottla::wire::messages::metadata_request::MetadataRequestTopic::default().with_name(name);
            client.call(&MetadataRequest::default().with_topics(Some(vec![topic])), 9)
        })?;
        let ports: HashMap<i32, u16> = found
            .brokers
            .iter()
            .filter_map(|broker| Some((broker.node_id.0, u16::try_from(broker.port).ok()?)))
            .collect();
        let topic = found.topics.first()?;
        let mut leaders = vec![0; topic.partitions.len()];
        for partition in &topic.partitions {
            let at = leaders.get_mut(partition.partition_index as usize)?;
            *at = ports.get(&partition.leader_id.0).copied().unwrap_or(0);
        }
        Some(leaders)
    }

    pub fn transaction_coordinator(&mut self, producer: &Transactional) -> Option<u16> {
        let found = self.any(|client| producer.find(client, 4))?;
        self.found(found)
    }

    pub fn group_coordinator(&mut self, group: &str) -> Option<u16> {
        let request = FindCoordinatorRequest::default().with_key(text(group));
        let found = self.any(|client| client.call(&request, 3))?;
        self.found(if found.error_code == 0 { Ok(found.port) } else { Err(found.error_code) })
    }

    fn found(&mut self, port: Result<i32, i16>) -> Option<u16> {
        match port {
            Ok(port) => u16::try_from(port).ok(),
            Err(_) => {
                self.turn += 1;
                std::thread::sleep(Duration::from_millis(10));
                None
            }
        }
    }
}
