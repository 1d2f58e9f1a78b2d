//! Reads: answered from the tree as it is, with the last applied zxid.

use super::super::acl::{self, Acl, perm};
use super::super::codes::{KeeperCode, op};
use super::super::jute::JuteWriter;
use super::super::reply::{self, no_body};
use super::super::request::{Read, Request, write_multi_header};
use super::super::tree::Node;
use super::super::watches::{ConnectionId, WatchMode};
use super::{Effect, Machine};

type Body = Result<JuteWriter, KeeperCode>;

impl Machine {
    pub(super) fn read(
        &mut self,
        id: ConnectionId,
        session: i64,
        xid: i32,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        if let Request::SetWatches(watches) = request {
            self.set_watches(id, watches, effects);
            return self.send_code(id, xid, KeeperCode::Ok, effects);
        }
        let (xid, zxid) = match request {
            Request::Ping => (super::super::codes::XID_PING, self.tree.last_zxid()),
            Request::Sasl => (xid, 0),
            _ => (xid, self.tree.last_zxid()),
        };
        let frame = match self.read_body(id, session, request) {
            Ok(body) => reply::reply(xid, zxid, 0, |to| {
                to.raw(body.as_slice());
            }),
            Err(code) => reply::reply(xid, zxid, code.code(), no_body),
        };
        effects.push(Effect::Send { to: id, frame });
    }

    fn read_body(&mut self, id: ConnectionId, session: i64, request: Request) -> Body {
        let mut body = JuteWriter::new();
        match request {
            Request::Exists { path, watch } => {
                if path.contains('\0') {
                    return Err(KeeperCode::BadArguments);
                }
                let node = match self.tree.get(&path) {
                    Some(_) => Some(self.readable(id, &path, perm::READ)?.stat()),
                    None => None,
                };
                if watch {
                    self.data_watches.add(&path, id, WatchMode::OneShot);
                }
                node.ok_or(KeeperCode::NoNode)?.write(&mut body);
            }
            Request::GetData { path, watch } => {
                write_data(self.readable(id, &path, perm::READ)?, &mut body);
                if watch {
                    self.data_watches.add(&path, id, WatchMode::OneShot);
                }
            }
            Request::GetChildren { path, watch, with_stat } => {
                let node = self.readable(id, &path, perm::READ)?;
                body.strings(node.children.iter());
                if with_stat {
                    node.stat().write(&mut body);
                }
                if watch {
                    self.child_watches.add(&path, id, WatchMode::OneShot);
                }
            }
            Request::GetAcl { path } => self.acl_body(id, &path, &mut body)?,
            Request::GetAllChildrenNumber { path } => {
                self.readable(id, &path, perm::READ)?;
                body.count(self.tree.descendants(&path));
            }
            Request::Sync { path } => {
                body.string(&path);
            }
            Request::MultiRead(reads) => self.multi_read(id, &reads, &mut body),
            Request::GetEphemerals { prefix } => self.ephemerals_body(session, prefix.as_deref(), &mut body),
            Request::WhoAmI => self.who_am_i(id, &mut body),
            Request::CheckWatches { path, kind } => self.check_watches(id, &path, kind)?,
            Request::RemoveWatches { path, kind } => self.remove_watches(id, &path, kind)?,
            Request::AddWatch { path, mode } => {
                self.add_watch(id, &path, mode)?;
                body.i32(KeeperCode::Ok.code());
            }
            Request::Sasl => {
                // No SASL is configured: a null token says so, and the client goes on without.
                body.buffer(None);
            }
            _ => {}
        }
        Ok(body)
    }

    /// A node that this connection may treat so.
    pub(super) fn readable(&self, id: ConnectionId, path: &str, perms: i32) -> Result<&Node, KeeperCode> {
        let node = self.tree.get(path).ok_or(KeeperCode::NoNode)?;
        if self.permits(id, &node.acl, perms) { Ok(node) } else { Err(KeeperCode::NoAuth) }
    }

    pub(super) fn permits(&self, id: ConnectionId, list: &[Acl], perms: i32) -> bool {
        self.connections.get(&id).is_some_and(|connection| acl::permits(list, perms, &connection.identities))
    }

    fn acl_body(&self, id: ConnectionId, path: &str, body: &mut JuteWriter) -> Result<(), KeeperCode> {
        let node = self.readable(id, path, perm::READ | perm::ADMIN)?;
        if self.permits(id, &node.acl, perm::ADMIN) {
            acl::write_list(&node.acl, body);
        } else {
            acl::write_list(&acl::masked(&node.acl), body);
        }
        node.stat().write(body);
        Ok(())
    }

    fn multi_read(&self, id: ConnectionId, reads: &[Read], body: &mut JuteWriter) {
        for read in reads {
            let (kind, path) = match read {
                Read::Data(path) => (op::GET_DATA, path),
                Read::Children(path) => (op::GET_CHILDREN, path),
            };
            match self.readable(id, path, perm::READ) {
                Ok(node) => {
                    write_multi_header(body, kind, false, 0);
                    match read {
                        Read::Data(_) => write_data(node, body),
                        Read::Children(_) => {
                            body.strings(node.children.iter());
                        }
                    }
                }
                Err(code) => {
                    write_multi_header(body, op::ERROR, false, code.code());
                    body.i32(code.code());
                }
            }
        }
        reply::end_multi(body);
    }

    fn ephemerals_body(&self, session: i64, prefix: Option<&str>, body: &mut JuteWriter) {
        let prefix = prefix.filter(|prefix| !prefix.trim().is_empty() && *prefix != "/").unwrap_or_default();
        let paths: Vec<_> = self.tree.ephemerals_of(session).filter(|path| path.starts_with(prefix)).collect();
        body.strings(paths.iter());
    }

    fn who_am_i(&self, id: ConnectionId, body: &mut JuteWriter) {
        let identities =
            self.connections.get(&id).map(|connection| connection.identities.as_slice()).unwrap_or_default();
        body.count(identities.len());
        for identity in identities {
            body.string(&identity.scheme).string(acl::shown_user(identity));
        }
    }
}

fn write_data(node: &Node, body: &mut JuteWriter) {
    body.buffer(node.data.as_deref());
    node.stat().write(body);
}
