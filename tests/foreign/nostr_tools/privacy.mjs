// Who may see what: authentication (NIP-42), private events (NIP-04, NIP-59), messages (NIP-17).

import { SimplePool } from 'nostr-tools/pool'
import { finalizeEvent } from 'nostr-tools/pure'
import * as nip17 from 'nostr-tools/nip17'
import { seconds, until, within } from '../scene.mjs'
import { Party } from './party.mjs'

// Asked with no more than a signer, the pool finds its way through the refusal by itself.
export async function authentication(url, scene) {
  const [sender, recipient] = [await Party.connected(url), new Party(url)]
  const letter = scene.called('letter', sender.sign(4, 'sealed', [['p', recipient.pubkey]]))
  await sender.publish(letter)
  const wanted = { kinds: [4], '#p': [recipient.pubkey] }
  const request = params => {
    const pool = new SimplePool({ maxWaitForConnection: 20_000 })
    const seen = { events: [], closed: [] }
    return within(new Promise(resolve => {
      pool.subscribe([url], wanted, {
        onevent: event => seen.events.push(event),
        oneose: () => resolve(seen),
        onclose: reasons => {
          seen.closed.push(...reasons.map(each => each.reason))
          resolve(seen)
        },
        ...params,
      })
    }), 'pool').finally(() => pool.destroy())
  }
  const onauth = async template => finalizeEvent(template, recipient.secret)
  scene.observe('without a signer', { closed: (await request({})).closed[0] })
  scene.observe('with a signer', scene.names((await request({ onauth })).events))

  const protectedNote = recipient.sign(1, 'mine', [['-']])
  const pool = new SimplePool({ maxWaitForConnection: 20_000 })
  const published = pool.publish([url], protectedNote, { onauth })[0]
  scene.observe('published with a signer', await published.then(() => true, error => String(error)))
  pool.destroy()
}

export async function privacy(url, scene) {
  const sender = await Party.connected(url)
  const recipient = await Party.authenticated(url)
  const parties = { recipient, other: await Party.authenticated(url), stranger: await Party.connected(url) }
  const tags = [['p', recipient.pubkey]]
  const sign = (name, kind, age) => scene.called(name, sender.sign(kind, name, tags, seconds() - age))
  const events = [sign('wrap', 1059, 30), sign('letter', 4, 20), sign('note', 1, 10), sign('passing wrap', 21059, 5)]

  // by person, not by kind: what one may not see is left out, and nothing is refused
  const live = {}
  for (const [name, party] of Object.entries(parties)) {
    live[name] = party.watch({ '#p': [recipient.pubkey] })
    await live[name].eose
  }
  for (const event of events) await sender.publish(event)
  const sentinel = sender.sign(1, 'the end', tags)
  await sender.publish(scene.called('end', sentinel))
  for (const [name, party] of Object.entries(parties)) {
    await until(() => live[name].events.some(event => event.id === sentinel.id))
    scene.observe(`live to the ${name}`, scene.names(live[name].events))
    const stored = await party.ask({ '#p': [recipient.pubkey], until: seconds() - 4 })
    scene.observe(`stored, for the ${name}`, scene.answer(stored))
    const wraps = { kinds: [1059], '#p': [recipient.pubkey] }
    scene.observe(`wraps, for the ${name}`, scene.answer(await party.ask(wraps)))
    const { count, closed } = await party.count(wraps)
    scene.observe(`counted by the ${name}`, count ?? { closed })
    const byId = await party.ask({ ids: events.map(event => event.id) })
    scene.observe(`by id, for the ${name}`, scene.answer(byId))
  }
}

// Two people write to each other, each on a connection that has authenticated.
export async function messages(url, scene) {
  const [alice, bob] = await Promise.all([Party.authenticated(url), Party.authenticated(url)])
  const inbox = party => party.watch({ kinds: [1059], '#p': [party.pubkey] })
  const [toAlice, toBob] = [inbox(alice), inbox(bob)]
  await Promise.all([toAlice.eose, toBob.eose])
  const write = async (from, to, text) => {
    for (const wrap of nip17.wrapManyEvents(from.secret, [{ publicKey: to.pubkey }], text)) {
      await from.publish(wrap)
    }
  }
  const read = (party, inbox) => inbox.events.map(wrap => {
    const rumor = nip17.unwrapEvent(wrap, party.secret)
    return [rumor.pubkey === alice.pubkey ? 'alice' : 'bob', rumor.kind, rumor.content]
  })
  // a copy of each message goes to its author
  await write(alice, bob, 'hello 🤙')
  await until(() => toBob.events.length > 0)
  await write(bob, alice, 'hello yourself')
  await until(() => toAlice.events.length > 1 && toBob.events.length > 1)
  scene.observe('alice has', read(alice, toAlice).sort())
  scene.observe('bob has', read(bob, toBob).sort())
}
