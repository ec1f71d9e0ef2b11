// What makes events go away, and what keeps others from bringing them: deletion (NIP-09), requests
// to vanish (NIP-62), expiration (NIP-40), protection (NIP-70).

import { NDKEvent } from '@nostr-dev-kit/ndk'
import { pause, seconds, until } from '../scene.mjs'
import { Party } from './party.mjs'

export async function deletion(url, scene) {
  const [author, other] = await Promise.all([Party.connected(url), Party.connected(url)])
  author.ndk.signer = author.signer
  const start = seconds() - 3_600
  const write = async (name, kind, tags, age) => {
    const event = scene.called(name, await author.sign(kind, name, tags, start + age))
    return [event, await author.publish(event)]
  }
  const [first] = await write('first', 1, [], 0)
  await write('second', 1, [], 1)
  const [version] = await write('version', 30023, [['d', 'x']], 2)
  const ask = () => other.ask({ authors: [author.pubkey], kinds: [1, 30023] }).then(it => scene.answer(it))
  scene.observe('before', await ask())

  await other.publish(await other.sign(5, '', [['e', first.id], ['k', '1']]))
  scene.observe('after the request of another', await ask())

  // NDK makes the request itself: unpublished, so that its answer can be seen
  const request = await first.delete('regretted', false)
  await request.sign(author.signer)
  scene.called('request', request)
  scene.observe('request', await author.publish(request))
  scene.observe('after the request', await ask())
  scene.observe('published again', await other.publish(first))
  scene.observe('after that', await ask())

  const byAddress = new NDKEvent(author.ndk, {
    kind: 5, content: '', tags: [['a', version.tagAddress()]], created_at: start + 10,
  })
  await byAddress.sign(author.signer)
  await author.publish(byAddress)
  scene.observe('after a request by address', await ask())
  scene.observe('old version again', await author.publish(version))
  const [, answer] = await write('newer version', 30023, [['d', 'x']], 20)
  scene.observe('newer version', answer)
  scene.observe('after the newer version', await ask())

  await author.publish(await author.sign(5, '', [['e', request.id], ['k', '5']]))
  scene.observe('the request, once deleted', scene.answer(await other.ask({ ids: [request.id] })))
}

export async function vanishing(url, scene) {
  const [author, other] = await Promise.all([Party.connected(url), Party.connected(url)])
  const recipient = await Party.authenticated(url, { secret: author.signer.privateKey })
  const start = seconds() - 3_600
  const write = async (party, name, kind, tags) => {
    const event = scene.called(name, await party.sign(kind, '', tags, start))
    await party.publish(event)
    return event
  }
  const note = await write(author, 'note', 1, [])
  const deletion = await write(author, 'deletion', 5, [['e', 'a'.repeat(64)]])
  const wrap = await write(other, 'wrap', 1059, [['p', author.pubkey]])
  const reply = await write(other, 'reply', 1, [['p', author.pubkey]])
  const ids = [note, deletion, wrap, reply].map(event => event.id)
  const ask = async () => scene.answer(await recipient.ask({ ids })).sort()
  scene.observe('before', await ask())

  const elsewhere = await author.sign(62, 'not here', [['relay', 'wss://elsewhere.example/']])
  scene.observe('a request to another relay', await author.publish(elsewhere))
  scene.observe('after a request to another relay', await ask())

  // NDK ends its relays' URLs with a slash
  const vanish = await author.sign(62, 'forget me', [['relay', author.relay.url]])
  scene.observe('request', await author.publish(vanish))
  scene.observe('after the request', await ask())
  scene.observe('published again', await other.publish(note))
  scene.observe('wrap published again', await other.publish(wrap))
  scene.observe('after that', await ask())

  const late = scene.called('late', await author.sign(1, 'back again', [], seconds() + 2))
  scene.observe('a newer note', await author.publish(late))
  const everywhere = await author.sign(62, '', [['relay', 'ALL_RELAYS']], seconds() + 3)
  scene.observe('request to all', await author.publish(everywhere))
  scene.observe('after the request to all', scene.answer(await other.ask({ ids: [late.id] })))
}

export async function expiration(url, scene) {
  const [author, reader] = await Promise.all([Party.connected(url), Party.connected(url)])
  const expiring = at => author.sign(1, 'until then', [['expiration', String(at)]], seconds() - 60)
  scene.observe('expired', await author.publish(await expiring(seconds() - 10)))
  // on a busy machine the time may be up before the relay was asked
  let end, event, answer, before
  for (const lifetime of [2, 5, 10]) {
    end = seconds() + lifetime
    event = scene.called('event', await expiring(end))
    answer = await author.publish(event)
    before = scene.answer(await reader.ask({ ids: [event.id] }))
    if (seconds() < end) break
  }
  const wanted = { ids: [event.id] }
  scene.observe('expiring', answer)
  scene.observe('before', before)
  await until(() => seconds() > end)
  await pause(50)
  scene.observe('after', scene.answer(await reader.ask(wanted)))
  scene.observe('counted after', (await reader.count(wanted)).count)
}

export async function protection(url, scene) {
  const [author, other] = await Promise.all([Party.connected(url), Party.authenticated(url)])
  const authenticated = await Party.authenticated(url, { secret: author.signer.privateKey })
  const event = new NDKEvent(author.ndk, { kind: 1, content: 'mine alone', tags: [], created_at: seconds() })
  event.isProtected = true
  await event.sign(author.signer)
  scene.called('event', event)
  scene.observe('by nobody in particular', await author.publish(event))
  scene.observe('by another', await other.publish(event))
  scene.observe('by its author', await authenticated.publish(event))
  scene.observe('stored', scene.answer(await other.ask({ ids: [event.id] })))
  const repost = await other.sign(6, JSON.stringify(event.rawEvent()), [['e', event.id]])
  scene.observe('in a repost', await other.publish(repost))
}
