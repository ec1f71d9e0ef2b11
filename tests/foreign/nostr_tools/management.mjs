// Managing the relay over HTTP (NIP-86), authorized by signed events (NIP-98).

import { finalizeEvent, generateSecretKey, getPublicKey } from 'nostr-tools/pure'
import { fetchRelayInformation } from 'nostr-tools/nip11'
import { getToken } from 'nostr-tools/nip98'
import { Party } from './party.mjs'

export async function management(url, scene) {
  const address = url.replace('ws://', 'http://') + '/'
  const administrator = Uint8Array.from(Buffer.from(scene.properties.administrator, 'hex'))
  const request = (body, authorization) => fetch(address, {
    method: 'POST',
    headers: { 'Content-Type': 'application/nostr+json+rpc', ...(authorization && { Authorization: authorization }) },
    body: JSON.stringify(body),
  })
  const signedBy = secret => template => finalizeEvent(template, secret)
  const call = async (method, ...params) => {
    const body = { method, params }
    const response = await request(body, await getToken(address, 'post', signedBy(administrator), true, body))
    const { result, error } = await response.json()
    return error ? { error } : result
  }

  const body = { method: 'supportedmethods', params: [] }
  const token = (secret, payload) => getToken(address, 'post', signedBy(secret), true, payload)
  scene.observe('without authorization', (await request(body)).status)
  scene.observe('of a stranger', (await request(body, await token(generateSecretKey(), body))).status)
  scene.observe('for another payload', (await request(body, await token(administrator, { method: 'x' }))).status)
  scene.observe('methods', await call('supportedmethods'))

  const party = await Party.connected(url)
  scene.observe('allowed', await call('allowpubkey', party.pubkey, 'a friend'))
  const note = async (name, kind = 1) => {
    const event = scene.called(name, party.sign(kind, name))
    return [event, await party.publish(event)]
  }
  const stored = async () => scene.answer(await party.ask({ authors: [party.pubkey] })).sort()
  const [bad, written] = await note('bad')
  scene.observe('note', written)
  scene.observe('ban of an event', await call('banevent', bad.id, 'bad taste'))
  scene.observe('stored after that', await stored())
  scene.observe('banned and published again', await party.publish(bad))
  scene.observe('banned events', (await call('listbannedevents')).filter(({ id }) => id === bad.id))
  scene.observe('bad', bad.id)

  scene.observe('ban of a pubkey', await call('banpubkey', party.pubkey, 'spam'))
  scene.observe('note of who is banned', (await note('banned'))[1])
  scene.observe('banned pubkeys', (await call('listbannedpubkeys')).filter(({ pubkey }) => pubkey === party.pubkey))
  scene.observe('pubkey', party.pubkey)
  scene.observe('unban', await call('unbanpubkey', party.pubkey))
  scene.observe('allowed again', await call('allowpubkey', party.pubkey))
  scene.observe('note of who is not banned', (await note('good'))[1])

  scene.observe('kind disallowed', await call('disallowkind', 4242))
  scene.observe('note of that kind', (await note('odd', 4242))[1])
  scene.observe('address blocked', await call('blockip', '192.0.2.7', 'noise'))
  scene.observe('blocked addresses', await call('listblockedips'))
  scene.observe('name changed', await call('changerelayname', 'Renamed by its keeper'))
  scene.observe('name', (await fetchRelayInformation(url)).name)
  scene.observe('unknown method', (await call('makecoffee')).error !== undefined)
}
