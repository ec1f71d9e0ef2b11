// Talks to a relay as nostr-tools does, step by step. Usage: node nostr_tools.mjs ws://…
//
// Prints one JSON line for each step and one with the verdict; exits with 1 when a step failed.

import { Relay, useWebSocketImplementation } from 'nostr-tools/relay'
import { finalizeEvent, generateSecretKey, getPublicKey, sortEvents, verifyEvent } from 'nostr-tools/pure'
import { fetchRelayInformation } from 'nostr-tools/nip11'
import assert from 'node:assert/strict'
import WebSocket from 'ws'

useWebSocketImplementation(WebSocket)

const url = process.argv[2]
const NOTES = 100
const DEADLINE = 20_000
const start = Math.floor(Date.now() / 1000) - 3_600
const secret = generateSecretKey()
const author = getPublicKey(secret)
const failed = []

const print = line => process.stdout.write(JSON.stringify(line) + '\n')
const ids = events => events.map(event => event.id)
const sign = (kind, content, tags, created_at) =>
  finalizeEvent({ kind, content, tags, created_at }, secret)

function within(promise, what) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing in time`)), DEADLINE)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

async function step(name, work) {
  try {
    print({ step: name, ok: true, ...(await within(work(), name)) })
  } catch (error) {
    failed.push(name)
    print({ step: name, ok: false, error: String(error?.message ?? error) })
  }
}

// What nostr-tools itself finds wrong with an event (no match, bad signature) is a failure here.
function watch(relay, filters, onevent) {
  let subscription
  const invalid = []
  const eose = new Promise((resolve, reject) => {
    subscription = relay.subscribe(filters, {
      eoseTimeout: 2 * DEADLINE,
      onevent,
      oninvalidevent: event => invalid.push(event),
      oneose: resolve,
      onclose: reason => reject(new Error(`closed: ${reason}`)),
    })
  })
  eose.catch(() => {})
  return { eose, invalid, close: () => subscription.close() }
}

async function stored(relay, ...filters) {
  const events = []
  const watched = watch(relay, filters, event => events.push(event))
  await watched.eose
  watched.close()
  assert.deepEqual(watched.invalid, [])
  return events
}

const until = async (condition, what) => {
  const end = Date.now() + DEADLINE
  while (!condition()) {
    assert.ok(Date.now() < end, what)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

const refusal = promise => promise.then(() => assert.fail('accepted'), error => String(error.message))

const relay = await within(Relay.connect(url), 'connect')
const reader = await within(Relay.connect(url), 'connect')
// two notes to a second, so that ties have to be ordered by id
const notes = Array.from({ length: NOTES }, (_, number) =>
  sign(1, `note ${number} “\u2028” \u0001 🤙`, [['t', 'foreign'], ['n', String(number)]], start + (number >> 1)))

await step('live: each note once, in publish order', async () => {
  const seen = []
  const live = watch(reader, [{ authors: [author], kinds: [1] }], event => seen.push(event))
  await live.eose
  // sent at once, answered in whatever time it takes
  const answers = await Promise.all(notes.map(note => relay.publish(note)))
  await until(() => seen.length >= NOTES, `${seen.length} of ${NOTES} were delivered`)
  await new Promise(resolve => setTimeout(resolve, 200))
  live.close()
  assert.deepEqual(ids(seen), ids(notes))
  assert.deepEqual(live.invalid, [])
  return { accepted: answers.length, delivered: seen.length }
})

await step('stored: each note once, newest first, ties by lowest id', async () => {
  const events = await stored(reader, { authors: [author], kinds: [1] })
  assert.deepEqual(ids(events), ids(sortEvents([...notes])))
  assert.ok(events.every(event => verifyEvent(event)))
  assert.deepEqual(ids(await stored(reader, { authors: [author], limit: 7 })), ids(events.slice(0, 7)))
  return { stored: events.length }
})

await step('count', async () => {
  const count = await relay.count([{ authors: [author], kinds: [1] }, { ids: ids(notes) }], {})
  assert.equal(count, NOTES)
  return { count }
})

await step('a duplicate is accepted and says so', async () => {
  const reason = await relay.publish(notes[0])
  assert.match(reason, /^duplicate:/)
})

await step('a forged event is refused', async () => {
  const forged = { ...sign(1, 'true', [], start), content: 'false' }
  assert.match(await refusal(relay.publish(forged)), /^invalid:/)
})

await step('replaceable: the newest wins', async () => {
  const versions = [1, 3, 2].map(age => sign(0, `{"name":"${age}"}`, [], start + age))
  for (const version of versions) await relay.publish(version).catch(() => {})
  assert.deepEqual(ids(await stored(reader, { authors: [author], kinds: [0] })), [versions[1].id])
})

await step('addressable: the newest of each d wins', async () => {
  const version = (d, age) => sign(30023, `${d} ${age}`, [['d', d]], start + age)
  const versions = [version('a', 1), version('b', 1), version('a', 2)]
  for (const each of versions) await relay.publish(each)
  const of = d => stored(reader, { authors: [author], kinds: [30023], '#d': [d] })
  assert.deepEqual(ids(await of('a')), [versions[2].id])
  assert.deepEqual(ids(await of('b')), [versions[1].id])
})

await step('ephemeral: delivered and not stored', async () => {
  const seen = []
  const live = watch(reader, [{ kinds: [20_001], authors: [author] }], event => seen.push(event))
  await live.eose
  const event = sign(20_001, 'now', [], start)
  await relay.publish(event)
  await until(() => seen.length > 0, 'not delivered')
  live.close()
  assert.deepEqual(ids(seen), [event.id])
  assert.deepEqual(await stored(reader, { ids: [event.id] }), [])
})

await step('deletion: gone, and refused when published again', async () => {
  const gone = notes.slice(0, 3)
  const request = sign(5, 'regretted', gone.map(note => ['e', note.id]), start + 1_000)
  await relay.publish(request)
  assert.deepEqual(await stored(reader, { ids: ids(gone) }), [])
  assert.deepEqual(ids(await stored(reader, { kinds: [5], authors: [author] })), [request.id])
  assert.equal(await relay.count([{ authors: [author], kinds: [1] }], {}), NOTES - gone.length)
  await refusal(relay.publish(gone[0]))
  assert.deepEqual(await stored(reader, { ids: ids(gone) }), [])
})

await step('deletion by address spares what is newer', async () => {
  const version = age => sign(30023, `c ${age}`, [['d', 'c']], start + age)
  await relay.publish(version(1))
  await relay.publish(sign(5, '', [['a', `30023:${author}:c`]], start + 5))
  const wanted = { authors: [author], kinds: [30023], '#d': ['c'] }
  assert.deepEqual(await stored(reader, wanted), [])
  const newer = version(6)
  await relay.publish(newer)
  assert.deepEqual(ids(await stored(reader, wanted)), [newer.id])
})

await step('authentication opens what is protected', async () => {
  const event = sign(1, 'mine alone', [['-']], start + 2_000)
  assert.match(await refusal(relay.publish(event)), /^(auth-required|restricted|blocked):/)
  await until(() => relay.challenge, 'no challenge')
  await relay.auth(template => Promise.resolve(finalizeEvent(template, secret)))
  await relay.publish(event)
  assert.deepEqual(ids(await stored(reader, { ids: [event.id] })), [event.id])
})

await step('information document', async () => {
  const information = await fetchRelayInformation(url)
  for (const nip of [1, 9, 11, 42]) assert.ok(information.supported_nips.includes(nip), `NIP-${nip}`)
  assert.ok(information.limitation.max_limit > 0)
  return { supported: information.supported_nips }
})

relay.close()
reader.close()
print({ verdict: failed.length === 0 ? 'passed' : 'failed', failed })
process.exitCode = failed.length === 0 ? 0 : 1
