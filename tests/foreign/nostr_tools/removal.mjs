// What makes events go away, and what keeps others from bringing them: deletion (NIP-09), requests
// to vanish (NIP-62), expiration (NIP-40), protection (NIP-70).

import { pause, seconds, until } from '../scene.mjs'
import { Party } from './party.mjs'

export async function deletion(url, scene) {
  const [author, other] = await Promise.all([Party.connected(url), Party.connected(url)])
  const start = seconds() - 3_600
  const [first, second] = ['first', 'second'].map((name, n) =>
    scene.called(name, author.sign(1, name, [], start + n)))
  const article = (name, age) =>
    scene.called(name, author.sign(30023, name, [['d', 'x']], start + age))
  const version = article('version', 2)
  for (const event of [first, second, version]) await author.publish(event)
  const ask = () => other.ask({ authors: [author.pubkey], kinds: [1, 30023] }).then(it => scene.answer(it))
  scene.observe('before', await ask())

  await other.publish(other.sign(5, '', [['e', first.id], ['k', '1']]))
  scene.observe('after the request of another', await ask())

  const request = scene.called('request', author.sign(5, 'regretted', [['e', first.id], ['k', '1']]))
  scene.observe('request', await author.publish(request))
  scene.observe('after the request', await ask())
  scene.observe('published again', await other.publish(first))
  scene.observe('after that', await ask())

  await author.publish(author.sign(5, '', [['a', `30023:${author.pubkey}:x`]], start + 10))
  scene.observe('after a request by address', await ask())
  scene.observe('old version again', await author.publish(version))
  scene.observe('newer version', await author.publish(article('newer version', 20)))
  scene.observe('after the newer version', await ask())

  await author.publish(author.sign(5, '', [['e', request.id], ['k', '5']]))
  scene.observe('the request, once deleted', scene.answer(await other.ask({ ids: [request.id] })))
}

export async function vanishing(url, scene) {
  const [author, other] = await Promise.all([Party.connected(url), Party.connected(url)])
  const recipient = await Party.authenticated(url, author.secret)
  const start = seconds() - 3_600
  const note = scene.called('note', author.sign(1, 'here', [], start))
  const deletion = scene.called('deletion', author.sign(5, '', [['e', 'a'.repeat(64)]], start))
  const wrap = scene.called('wrap', other.sign(1059, '', [['p', author.pubkey]], start))
  const reply = scene.called('reply', other.sign(1, '', [['p', author.pubkey]], start))
  for (const event of [note, deletion]) await author.publish(event)
  for (const event of [wrap, reply]) await other.publish(event)
  const ask = async () =>
    scene.answer(await recipient.ask({ ids: [note, deletion, wrap, reply].map(event => event.id) })).sort()
  scene.observe('before', await ask())

  const elsewhere = author.sign(62, 'not here', [['relay', 'wss://elsewhere.example/']])
  scene.observe('a request to another relay', await author.publish(elsewhere))
  scene.observe('after a request to another relay', await ask())

  scene.observe('request', await author.publish(author.sign(62, 'forget me', [['relay', url]])))
  scene.observe('after the request', await ask())
  scene.observe('published again', await other.publish(note))
  scene.observe('wrap published again', await other.publish(wrap))
  scene.observe('after that', await ask())

  const late = scene.called('late', author.sign(1, 'back again', [], seconds() + 2))
  scene.observe('a newer note', await author.publish(late))
  const everywhere = author.sign(62, '', [['relay', 'ALL_RELAYS']], seconds() + 3)
  scene.observe('request to all', await author.publish(everywhere))
  scene.observe('after the request to all', scene.answer(await other.ask({ ids: [late.id] })))
}

export async function expiration(url, scene) {
  const [author, reader] = await Promise.all([Party.connected(url), Party.connected(url)])
  const expiring = at => author.sign(1, 'until then', [['expiration', String(at)]], seconds() - 60)
  scene.observe('expired', await author.publish(expiring(seconds() - 10)))
  // on a busy machine the time may be up before the relay was asked
  let end, event, answer, before
  for (const lifetime of [2, 5, 10]) {
    end = seconds() + lifetime
    event = scene.called('event', expiring(end))
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
  const event = scene.called('event', author.sign(1, 'mine alone', [['-']]))
  scene.observe('by nobody in particular', await author.publish(event))
  scene.observe('by another', await other.publish(event))
  scene.observe('authentication', await author.authenticate())
  scene.observe('by its author', await author.publish(event))
  scene.observe('stored', scene.answer(await other.ask({ ids: [event.id] })))
  const repost = other.sign(6, JSON.stringify(event), [['e', event.id], ['p', author.pubkey]])
  scene.observe('in a repost', await other.publish(repost))
}
