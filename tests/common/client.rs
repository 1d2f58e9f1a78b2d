//! A plain Kafka client for tests: one blocking connection, one request at a time.

use bytes::{BufMut, Bytes, BytesMut};
use ottla::wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader,
};
use ottla::wire::{Decodable, Encodable, HeaderVersion, RequestMessage, text};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

pub struct Client {
    pub stream: TcpStream,
    correlation_id: i32,
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl Client {
    pub fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client { stream, correlation_id: 0 })
    }

    /// Sends a request and reads its response.
    pub fn call<R: RequestMessage>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        let correlation_id = self.send(request, version)?;
        self.receive::<R>(correlation_id, version)
    }

    /// Sends a request; its correlation id comes back.
    pub fn send<R: RequestMessage>(&mut self, request: &R, version: i16) -> io::Result<i32> {
        self.correlation_id += 1;
        let frame = frame(request, version, self.correlation_id)?;
        self.stream.write_all(&frame)?;
        Ok(self.correlation_id)
    }

    /// Reads the response to a request that was sent before.
    pub fn receive<R: RequestMessage>(&mut self, correlation_id: i32, version: i16) -> io::Result<R::Response> {
        let mut reply = self.read_frame()?;
        let header_version = <R::Response as HeaderVersion>::header_version(version);
        let header = ResponseHeader::decode(&mut reply, header_version).map_err(invalid)?;
        if header.correlation_id != correlation_id {
            return Err(invalid(format!("reply {} for request {correlation_id}", header.correlation_id)));
        }
        let response = R::Response::decode(&mut reply, version).map_err(invalid)?;
        if reply.is_empty() { Ok(response) } else { Err(invalid(format!("{} bytes left in the reply", reply.len()))) }
    }

    pub fn read_frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).map_err(invalid)?];
        self.stream.read_exact(&mut frame)?;
        Ok(Bytes::from(frame))
    }

    pub fn api_versions(&mut self) -> io::Result<ApiVersionsResponse> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text("ottla-test"))
            .with_client_software_version(text("1"));
        self.call(&request, 3)
    }

    /// Broker ids, hosts and ports.
    pub fn brokers(&mut self) -> io::Result<Vec<(i32, String, i32)>> {
        let response: MetadataResponse = self.call(&MetadataRequest::default().with_topics(Some(vec![])), 9)?;
        Ok(response.brokers.iter().map(|broker| (broker.node_id.0, broker.host.to_string(), broker.port)).collect())
    }
}

/// A whole frame: length, header at the version that belongs to the request, body.
pub fn frame<R: RequestMessage>(request: &R, version: i16, correlation_id: i32) -> io::Result<BytesMut> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(text("ottla-test")));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, R::header_version(version)).map_err(invalid)?;
    request.encode(&mut frame, version).map_err(invalid)?;
    let size = i32::try_from(frame.len() - 4).map_err(invalid)?;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    Ok(frame)
}
