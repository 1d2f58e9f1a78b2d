//! The golden bodies of `fixtures/wire-vectors.gz`, and for every API the decoding and encoding of its two messages.

// Each test program compiles this and uses the part that it needs.
#![allow(dead_code)]

use bytes::{Buf, Bytes};
use ottla::wire::messages::*;
use ottla::wire::schema::Direction;
use ottla::wire::{Decodable, Encodable, RequestMessage, WireError, decode, encode, guard};
use std::io::Read;

pub struct Vector {
    pub api_key: i16,
    pub direction: Direction,
    pub version: i16,
    pub flexible: bool,
    pub body: Bytes,
    pub counts: Vec<Count>,
}

/// Where a length or count stands in the body.
#[derive(Clone, Copy)]
pub struct Count {
    pub offset: usize,
    /// 0 for a varint.
    pub width: usize,
}

pub fn all() -> Vec<Vector> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&include_bytes!("../fixtures/wire-vectors.gz")[..]).read_to_end(&mut bytes).unwrap();
    let mut rest = Bytes::from(bytes);
    let mut vectors = Vec::new();
    while rest.has_remaining() {
        let api_key = rest.get_i16();
        let direction = if rest.get_u8() == 0 { Direction::Request } else { Direction::Response };
        let (version, flexible) = (i16::from(rest.get_u8()), rest.get_u8() == 1);
        let size = rest.get_u32() as usize;
        let body = rest.split_to(size);
        let count = |rest: &mut Bytes| Count { offset: rest.get_u16().into(), width: rest.get_u8().into() };
        let counts = (0..rest.get_u16()).map(|_| count(&mut rest)).collect();
        vectors.push(Vector { api_key, direction, version, flexible, body, counts });
    }
    vectors
}

impl Vector {
    pub fn name(&self) -> String {
        format!("{:?} {:?} version {}", ApiKey::try_from(self.api_key).unwrap(), self.direction, self.version)
    }

    /// The way of a body from outside: guard, decode; then encoded again.
    pub fn round_trip(&self, body: Bytes) -> Result<Bytes, WireError> {
        self.guard(&body)?;
        let codec = CODECS.iter().find(|codec| codec.api_key == self.api_key).expect("a codec");
        match self.direction {
            Direction::Request => (codec.request)(body, self.version),
            Direction::Response => (codec.response)(body, self.version),
        }
    }

    pub fn guard(&self, body: &[u8]) -> Result<(), WireError> {
        match self.direction {
            Direction::Request => guard::check(self.api_key, self.version, body),
            Direction::Response => guard::check_response(self.api_key, self.version, body),
        }
    }
}

pub struct Codec {
    pub api_key: i16,
    pub request: fn(Bytes, i16) -> Result<Bytes, WireError>,
    pub response: fn(Bytes, i16) -> Result<Bytes, WireError>,
}

fn again<T: Decodable + Encodable>(body: Bytes, version: i16) -> Result<Bytes, WireError> {
    encode(&decode::<T>(body, version)?, version)
}

const fn codec<R: RequestMessage>() -> Codec {
    Codec { api_key: R::KEY, request: again::<R>, response: again::<R::Response> }
}

pub static CODECS: &[Codec] = &[
    codec::<ProduceRequest>(),
    codec::<FetchRequest>(),
    codec::<ListOffsetsRequest>(),
    codec::<MetadataRequest>(),
    codec::<LeaderAndIsrRequest>(),
    codec::<StopReplicaRequest>(),
    codec::<UpdateMetadataRequest>(),
    codec::<ControlledShutdownRequest>(),
    codec::<OffsetCommitRequest>(),
    codec::<OffsetFetchRequest>(),
    codec::<FindCoordinatorRequest>(),
    codec::<JoinGroupRequest>(),
    codec::<HeartbeatRequest>(),
    codec::<LeaveGroupRequest>(),
    codec::<SyncGroupRequest>(),
    codec::<DescribeGroupsRequest>(),
    codec::<ListGroupsRequest>(),
    codec::<SaslHandshakeRequest>(),
    codec::<ApiVersionsRequest>(),
    codec::<CreateTopicsRequest>(),
    codec::<DeleteTopicsRequest>(),
    codec::<DeleteRecordsRequest>(),
    codec::<InitProducerIdRequest>(),
    codec::<OffsetForLeaderEpochRequest>(),
    codec::<AddPartitionsToTxnRequest>(),
    codec::<AddOffsetsToTxnRequest>(),
    codec::<EndTxnRequest>(),
    codec::<WriteTxnMarkersRequest>(),
    codec::<TxnOffsetCommitRequest>(),
    codec::<DescribeAclsRequest>(),
    codec::<CreateAclsRequest>(),
    codec::<DeleteAclsRequest>(),
    codec::<DescribeConfigsRequest>(),
    codec::<AlterConfigsRequest>(),
    codec::<AlterReplicaLogDirsRequest>(),
    codec::<DescribeLogDirsRequest>(),
    codec::<SaslAuthenticateRequest>(),
    codec::<CreatePartitionsRequest>(),
    codec::<CreateDelegationTokenRequest>(),
    codec::<RenewDelegationTokenRequest>(),
    codec::<ExpireDelegationTokenRequest>(),
    codec::<DescribeDelegationTokenRequest>(),
    codec::<DeleteGroupsRequest>(),
    codec::<ElectLeadersRequest>(),
    codec::<IncrementalAlterConfigsRequest>(),
    codec::<AlterPartitionReassignmentsRequest>(),
    codec::<ListPartitionReassignmentsRequest>(),
    codec::<OffsetDeleteRequest>(),
    codec::<DescribeClientQuotasRequest>(),
    codec::<AlterClientQuotasRequest>(),
    codec::<DescribeUserScramCredentialsRequest>(),
    codec::<AlterUserScramCredentialsRequest>(),
    codec::<AlterPartitionRequest>(),
    codec::<UpdateFeaturesRequest>(),
    codec::<EnvelopeRequest>(),
    codec::<DescribeClusterRequest>(),
    codec::<DescribeProducersRequest>(),
    codec::<DescribeTransactionsRequest>(),
    codec::<ListTransactionsRequest>(),
    codec::<AllocateProducerIdsRequest>(),
    codec::<ConsumerGroupHeartbeatRequest>(),
    codec::<ConsumerGroupDescribeRequest>(),
];
