// Who may see what: authentication (NIP-42), private events (NIP-04, NIP-59), messages (NIP-17).

import { NDKEvent, giftUnwrap, giftWrap } from '@nostr-dev-kit/ndk'
import { seconds, until } from '../scene.mjs'
import { Party } from './party.mjs'

// A subscription and an event that were refused are tried again as soon as there is a signer.
export async function authentication(url, scene) {
  const [sender, recipient] = [await Party.connected(url), new Party(url)]
  const letter = scene.called('letter', await sender.sign(4, 'sealed', [['p', recipient.pubkey]]))
  await sender.publish(letter)

  recipient.ndk.relayAuthDefaultPolicy = async () => true
  await recipient.ndk.connect()
  const wanted = { kinds: [4], '#p': [recipient.pubkey] }
  const watched = recipient.watch(wanted)
  await until(() => watched.closed)
  scene.observe('without a signer', { closed: watched.closed })
  const protectedNote = await recipient.sign(1, 'mine', [['-']])
  const published = new NDKEvent(recipient.ndk, protectedNote.rawEvent()).publish(undefined, 10_000)
  await until(() => recipient.answers.has(protectedNote.id))
  recipient.ndk.signer = recipient.signer
  await until(() => watched.events.length > 0)
  scene.observe('with a signer', scene.names(watched.events))
  scene.observe('published with a signer', await published.then(() => true, error => String(error)))
}

export async function privacy(url, scene) {
  const sender = await Party.connected(url)
  const recipient = await Party.authenticated(url)
  const parties = { recipient, other: await Party.authenticated(url), stranger: await Party.connected(url) }
  const tags = [['p', recipient.pubkey]]
  const events = []
  for (const [name, kind, age] of [['wrap', 1059, 30], ['letter', 4, 20], ['note', 1, 10], ['passing wrap', 21059, 5]]) {
    events.push(scene.called(name, await sender.sign(kind, name, tags, seconds() - age)))
  }

  // by person, not by kind: what one may not see is left out, and nothing is refused
  const live = {}
  for (const [name, party] of Object.entries(parties)) {
    live[name] = party.watch({ '#p': [recipient.pubkey] })
    await live[name].eose
  }
  for (const event of events) await sender.publish(event)
  const sentinel = scene.called('end', await sender.sign(1, 'the end', tags))
  await sender.publish(sentinel)
  for (const [name, party] of Object.entries(parties)) {
    await until(() => live[name].events.some(event => event.id === sentinel.id))
    scene.observe(`live to the ${name}`, scene.names(live[name].events))
    const stored = await party.ask({ '#p': [recipient.pubkey], until: seconds() - 4 })
    scene.observe(`stored, for the ${name}`, scene.answer(stored))
    const wraps = { kinds: [1059], '#p': [recipient.pubkey] }
    scene.observe(`wraps, for the ${name}`, scene.answer(await party.ask(wraps)))
    const byId = await party.ask({ ids: events.map(event => event.id) })
    scene.observe(`by id, for the ${name}`, scene.answer(byId))
  }
  // NDK does not see when a count is refused
  const { count } = await recipient.count({ kinds: [1059], '#p': [recipient.pubkey] })
  scene.observe('counted by the recipient', count)
}

// Two people write to each other, each on a connection that has authenticated.
export async function messages(url, scene) {
  const [alice, bob] = await Promise.all([Party.authenticated(url), Party.authenticated(url)])
  const inbox = party => party.watch({ kinds: [1059], '#p': [party.pubkey] })
  const [toAlice, toBob] = [inbox(alice), inbox(bob)]
  await Promise.all([toAlice.eose, toBob.eose])
  const write = async (from, to, content) => {
    // a copy of each message goes to its author
    for (const reader of [to, from]) {
      const rumor = new NDKEvent(from.ndk, { kind: 14, content, tags: [['p', to.pubkey]], created_at: seconds() })
      await from.publish(await giftWrap(rumor, await reader.signer.user(), from.signer))
    }
  }
  const read = async (party, inbox) => {
    const rumors = await Promise.all(inbox.events.map(wrap => giftUnwrap(wrap, undefined, party.signer)))
    return rumors.map(rumor => [rumor.pubkey === alice.pubkey ? 'alice' : 'bob', rumor.kind, rumor.content]).sort()
  }
  await write(alice, bob, 'hello 🤙')
  await until(() => toBob.events.length > 0)
  await write(bob, alice, 'hello yourself')
  await until(() => toAlice.events.length > 1 && toBob.events.length > 1)
  scene.observe('alice has', await read(alice, toAlice))
  scene.observe('bob has', await read(bob, toBob))
}
