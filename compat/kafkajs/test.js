// kafkajs against BOOTSTRAP.
'use strict'

const crypto = require('crypto')
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, PartitionAssigners, logLevel } = require('kafkajs')
const snappy = require('snappy')
const lz4 = require('lz4-napi')
const { ZstdCodec } = require('zstd-codec')

const RUN = crypto.randomBytes(4).toString('hex')
const kafka = new Kafka({
  clientId: 'compat',
  brokers: [process.env.BOOTSTRAP],
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 100, retries: 8 },
})
const admin = kafka.admin()
const name = what => `${what}-${RUN}`
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

function equal(got, wanted, what = '') {
  const [g, w] = [JSON.stringify(got), JSON.stringify(wanted)]
  if (g !== w) throw new Error(`${what}: got ${g.slice(0, 600)}, wanted ${w.slice(0, 600)}`)
}

async function eventually(condition, what, seconds = 30) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(50)) {
    const result = await condition()
    if (result) return result
  }
  throw new Error(`not within ${seconds} s: ${what}`)
}

async function failsWith(type, action) {
  try {
    await action()
  } catch (error) {
    const found = (error.errors && error.errors[0] && error.errors[0].type) || error.type || (error.cause && error.cause.type)
    equal(found, type, error.message)
    return
  }
  throw new Error(`no ${type}`)
}

// kafkajs brings gzip alone; the rest is plugged in. Snappy comes raw or in the Java framing.
const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])
CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: encoder => snappy.compress(encoder.buffer),
  async decompress(buffer) {
    if (!buffer.subarray(0, 8).equals(XERIAL)) return snappy.uncompress(buffer, { asBuffer: true })
    const blocks = []
    for (let at = 16; at < buffer.length; ) {
      const length = buffer.readUInt32BE(at)
      blocks.push(await snappy.uncompress(buffer.subarray(at + 4, at + 4 + length), { asBuffer: true }))
      at += 4 + length
    }
    return Buffer.concat(blocks)
  },
})
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
const zstd = new Promise(resolve => ZstdCodec.run(codec => resolve(new codec.Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async buffer => Buffer.from((await zstd).decompress(buffer)),
})

async function create(topic, numPartitions = 1, configs = {}) {
  const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
  await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }], waitForLeaders: true })
  return topic
}

async function produce(topic, messages, { producer: options = {}, ...send } = {}) {
  const producer = kafka.producer({ allowAutoTopicCreation: true, ...options })
  await producer.connect()
  try {
    return await producer.send({ topic, messages, ...send })
  } finally {
    await producer.disconnect()
  }
}

const simple = (count, partition = 0, start = 0) =>
  Array.from({ length: count }, (_, i) => ({ partition, key: `k${start + i}`, value: `value ${start + i}` }))

/** A running member of a group: what it owns and what it has read. */
async function member(groupId, topic, options = {}) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 300, maxWaitTimeInMs: 300, ...options })
  const found = { consumer, owned: [], messages: [] }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => (found.owned = payload.memberAssignment[topic] || []))
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: options.autoCommit ?? true,
    eachMessage: async ({ partition, message }) => {
      found.messages.push({ partition, ...message })
    },
  })
  return found
}

async function read(topic, count, options = {}) {
  const reader = await member(name('reader-' + crypto.randomBytes(3).toString('hex')), topic, { autoCommit: false, ...options })
  try {
    await eventually(() => reader.messages.length >= count, `${count} messages`)
    return reader.messages
  } finally {
    await reader.consumer.disconnect()
  }
}

const checks = {
  async topicsAreDescribedGrownAndDeleted() {
    const topic = await create(name('topic'), 2, { 'retention.ms': '86400000' })
    equal(await admin.createTopics({ topics: [{ topic }] }), false, 'created twice')
    await failsWith('INVALID_TOPIC_EXCEPTION', () => create('bad/name'))
    await failsWith('INVALID_REPLICATION_FACTOR', () => admin.createTopics({ topics: [{ topic: name('rf'), numPartitions: 1, replicationFactor: 3 }] }))
    const cluster = await admin.describeCluster()
    equal(cluster.brokers.length, 1)
    equal(cluster.controller, cluster.brokers[0].nodeId)
    const described = await admin.fetchTopicMetadata({ topics: [topic] })
    equal(described.topics[0].partitions.map(p => p.partitionId).sort(), [0, 1])
    const configs = await admin.describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })
    const value = key => configs.resources[0].configEntries.find(entry => entry.configName === key)
    equal(value('retention.ms').configValue, '86400000')
    equal(value('segment.bytes').configValue, '1073741824')
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
    await eventually(async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 4, 'four partitions')
    await admin.deleteTopics({ topics: [topic] })
    await eventually(async () => !(await admin.listTopics()).includes(topic), 'the topic is gone')
  },

  async contentsSurviveByteForByte() {
    const topic = await create(name('contents'))
    const every = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
    const sent = [
      { key: 'key', value: 'value', headers: { h: ['1', '2'], empty: '' }, timestamp: '1700000000000' },
      { key: null, value: 'no key', timestamp: '1700000000001' },
      { key: 'no value', value: null, timestamp: '1700000000002' },
      { key: every, value: Buffer.concat(Array(100).fill(every)), headers: { 'ümläut': Buffer.from([255, 0]) }, timestamp: '1700000000003' },
    ]
    const [reply] = await produce(topic, sent, { acks: -1 })
    equal([reply.errorCode, reply.baseOffset], [0, '0'])
    const got = await read(topic, 4)
    const bytes = value => (value === null || value === undefined ? null : Buffer.from(value).toString('hex'))
    const headers = all => Object.entries(all || {}).map(([k, v]) => [k, [].concat(v).map(bytes)])
    got.forEach((message, i) => {
      equal(message.offset, String(i))
      equal([bytes(message.key), bytes(message.value)], [bytes(sent[i].key), bytes(sent[i].value)])
      equal(headers(message.headers), headers(sent[i].headers))
      equal(message.timestamp, sent[i].timestamp)
    })
  },

  async everyCodecRoundTripsAndTopicCompressionWins() {
    const codecs = { uncompressed: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' }
    const values = Array.from({ length: 200 }, (_, i) => `value ${i} `.repeat(20))
    for (const [type, codec] of Object.entries(codecs)) {
      const topic = await create(name(`codec-${type}`))
      await produce(topic, values.map(value => ({ value })), { compression: CompressionTypes[codec] })
      equal((await read(topic, 200)).map(m => m.value.toString()), values, type)
      const recoded = await create(name(`recoded-${type}`), 1, { 'compression.type': type })
      for (const sender of Object.values(codecs)) {
        await produce(recoded, values.slice(0, 40).map(value => ({ value })), { compression: CompressionTypes[sender] })
      }
      const wanted = [].concat(...Array(5).fill(values.slice(0, 40)))
      equal((await read(recoded, 200)).map(m => m.value.toString()), wanted, `recoded to ${type}`)
    }
  },

  async idempotentProducerKeepsOrder() {
    const topic = await create(name('idempotent'))
    const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    for (let i = 0; i < 100; i++) {
      await producer.send({ topic, messages: Array.from({ length: 20 }, (_, j) => ({ value: String(i * 20 + j) })) })
    }
    await producer.disconnect()
    equal((await read(topic, 2000)).map(m => Number(m.value)), Array.from({ length: 2000 }, (_, i) => i))
  },

  async acksZeroAndOneArrive() {
    const topic = await create(name('acks'))
    await produce(topic, simple(50), { acks: 0 })
    await eventually(async () => (await admin.fetchTopicOffsets(topic))[0].high === '50', '50 messages')
    equal((await produce(topic, simple(1), { acks: 1 }))[0].baseOffset, '50')
  },

  async offsetsAreFoundByTime() {
    const topic = await create(name('times'))
    await produce(topic, simple(100).map((m, i) => ({ ...m, timestamp: String(1700000000000 + i * 1000) })))
    equal((await admin.fetchTopicOffsets(topic))[0], { partition: 0, offset: '100', high: '100', low: '0' })
    equal((await admin.fetchTopicOffsetsByTimestamp(topic, 1700000050001))[0].offset, '51')
  },

  async aGroupRebalancesAndResumes() {
    const [topic, group] = [await create(name('group'), 4), name('group')]
    const options = { partitionAssigners: [PartitionAssigners.roundRobin] }
    const first = await member(group, topic, options)
    await eventually(() => first.owned.length === 4, 'the first member has everything')
    const second = await member(group, topic, options)
    await eventually(() => first.owned.length === 2 && second.owned.length === 2, 'two partitions each')
    for (let p = 0; p < 4; p++) await produce(topic, simple(50, p))
    await eventually(() => first.messages.length + second.messages.length >= 200, '200 messages between two members')
    const seen = new Set([...first.messages, ...second.messages].map(m => `${m.partition}/${m.offset}`))
    equal(seen.size, 200)
    const described = (await admin.describeGroups([group])).groups[0]
    equal([described.state, described.members.length, described.protocolType], ['Stable', 2, 'consumer'])
    await second.consumer.disconnect()
    await eventually(() => first.owned.length === 4, 'the first member has everything again')
    await first.consumer.disconnect()
    for (let p = 0; p < 4; p++) await produce(topic, simple(1, p))
    const third = await member(group, topic, options)
    await eventually(() => third.messages.length >= 4, 'resumed')
    equal(third.messages.map(m => m.offset), ['50', '50', '50', '50'], 'resumed at the commits')
    await third.consumer.disconnect()
  },

  async seekAndPause() {
    const topic = await create(name('seek'))
    await produce(topic, simple(20))
    const reader = await member(name('seek'), topic, { autoCommit: false })
    await eventually(() => reader.messages.length === 20, 'everything')
    reader.consumer.pause([{ topic }])
    await sleep(600) // the poll that is under way ends
    reader.messages.length = 0
    await produce(topic, simple(5))
    await sleep(600)
    equal(reader.messages.length, 0, 'messages while paused')
    reader.consumer.resume([{ topic }])
    reader.consumer.seek({ topic, partition: 0, offset: '10' })
    await eventually(() => reader.messages.some(m => m.offset === '24'), 'the last message')
    equal(reader.messages.some(m => m.offset === '10'), true, 'sought back to 10')
    await reader.consumer.disconnect()
  },

  async groupsAreListedAlteredAndDeleted() {
    const [topic, group] = [await create(name('offsets'), 2), name('offsets')]
    await produce(topic, simple(20))
    await admin.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset: '7' }] })
    const offset = async () => (await admin.fetchOffsets({ groupId: group, topics: [topic] }))[0].partitions.find(p => p.partition === 0).offset
    equal(await offset(), '7')
    equal((await admin.listGroups()).groups.some(g => g.groupId === group), true, 'the group is listed')
    await admin.resetOffsets({ groupId: group, topic, earliest: true })
    await admin.deleteGroups([group])
    equal((await admin.listGroups()).groups.some(g => g.groupId === group), false, 'the group is gone')
  },

  async recordsAreDeletedFromTheFront() {
    const topic = await create(name('delete-records'))
    await produce(topic, simple(100))
    await admin.fetchTopicOffsets(topic) // only then does the admin client know the leader
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '60' }] })
    equal((await admin.fetchTopicOffsets(topic))[0].low, '60')
    equal((await read(topic, 40))[0].offset, '60')
  },

  async aLargeMessagePassesAndTooLargeAOneIsRefused() {
    const topic = await create(name('large'), 1, { 'max.message.bytes': '4000000' })
    const big = crypto.randomBytes(3000000)
    await produce(topic, [{ value: big }])
    equal((await read(topic, 1, { maxBytesPerPartition: 1000 }))[0].value.equals(big), true, 'contents')
    const small = await create(name('small'), 1, { 'max.message.bytes': '1000' })
    await failsWith('MESSAGE_TOO_LARGE', () => produce(small, [{ value: big.subarray(0, 5000) }]))
  },

  async aTopicIsCreatedByProducingToIt() {
    const topic = name('auto-created')
    await produce(topic, [{ value: 'v' }])
    equal((await read(topic, 1))[0].value.toString(), 'v')
  },

  async transactionsAreSeenWholeOrNotAtAll() {
    const topic = await create(name('tx'))
    const groupId = name('tx')
    const producer = kafka.producer({ transactionalId: name('tx'), maxInFlightRequests: 1, idempotent: true })
    await producer.connect()
    for (const [value, offset, commits] of [['a', '1', true], ['lost', '7', false], ['b', '2', true]]) {
      const transaction = await producer.transaction()
      await transaction.send({ topic, messages: [{ value }] })
      await transaction.sendOffsets({ consumerGroupId: groupId, topics: [{ topic, partitions: [{ partition: 0, offset }] }] })
      await (commits ? transaction.commit() : transaction.abort())
    }
    await producer.disconnect()
    // kafkajs reads committed messages unless told otherwise.
    equal((await read(topic, 2)).map(message => message.value.toString()), ['a', 'b'], 'committed')
    equal((await read(topic, 3, { readUncommitted: true })).length, 3, 'everything')
    await eventually(async () => (await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions[0].offset === '2', 'the offset')
  },
}

async function main() {
  const only = process.argv.slice(2)
  let [passed, failed] = [0, 0]
  await admin.connect()
  for (const [label, body] of Object.entries(checks)) {
    if (only.length && !only.includes(label)) continue
    const began = Date.now()
    try {
      await Promise.race([body(), sleep(120000).then(() => Promise.reject(new Error('took over 120 s')))])
      passed++
      console.log(`ok ${label} (${((Date.now() - began) / 1000).toFixed(1)} s)`)
    } catch (error) {
      failed++
      console.log(`FAIL ${label}: ${error.stack || error}`)
    }
  }
  console.log(`${passed} passed, ${failed} failed`)
  process.exit(failed || !passed ? 1 : 0)
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
