// A group, from its creation to its end (NIP-29).

import { SimplePool } from 'nostr-tools/pool'
import { fetchRelayInformation } from 'nostr-tools/nip11'
import {
  fetchGroupAdminsEvent, fetchGroupMembersEvent, fetchGroupMetadataEvent, fetchGroupRolesEvent,
  parseGroupAdminsEvent, parseGroupMembersEvent, parseGroupMetadataEvent, parseGroupRolesEvent,
} from 'nostr-tools/nip29'
import { Party } from './party.mjs'

export async function groups(url, scene) {
  const parties = {}
  for (const name of ['owner', 'member', 'outsider']) parties[name] = await Party.authenticated(url)
  const { owner, member, outsider } = parties
  const nameOf = pubkey => Object.keys(parties).find(name => parties[name].pubkey === pubkey) ?? pubkey
  const id = owner.pubkey.slice(0, 12)
  const send = (party, kind, tags = [], content = '') =>
    party.publish(party.sign(kind, content, [['h', id], ...tags]))
  const post = async (party, name, tags = []) => {
    const event = scene.called(name, party.sign(9, name, [['h', id], ...tags]))
    return [event, await party.publish(event)]
  }
  const read = async party => scene.answer(await party.ask({ kinds: [9], '#h': [id] }))

  // what the relay says of the group is signed with its own key, `self`. nostr-tools looks for the
  // operator's, `pubkey`, as NIP-29 had it before
  const pool = new SimplePool({ maxWaitForConnection: 20_000 })
  const document = await fetchRelayInformation(url)
  const params = {
    pool, groupReference: { id, host: url }, relayInformation: { ...document, pubkey: document.self },
  }
  const metadata = async () => parseGroupMetadataEvent(await fetchGroupMetadataEvent(params))
  const admins = async () => parseGroupAdminsEvent(await fetchGroupAdminsEvent(params))
    .map(({ pubkey, label }) => [nameOf(pubkey), label])
  const members = async () => parseGroupMembersEvent(await fetchGroupMembersEvent(params))
    .map(({ pubkey }) => nameOf(pubkey)).sort()

  // in one breath: the group is there when the next event is judged
  const first = scene.called('first', owner.sign(9, 'first', [['h', id]]))
  const answers = [send(owner, 9007), owner.publish(first)]
  scene.observe('created', await answers[0])
  scene.observe('posted at once', await answers[1])
  scene.observe('created again', await send(outsider, 9007))
  scene.observe('admins', await admins())
  scene.observe('roles', parseGroupRolesEvent(await fetchGroupRolesEvent(params)).map(({ name }) => name))

  const settings = [['name', 'Pizza Lovers'], ['about', 'pizza'], ['closed'], ['restricted'], ['private']]
  scene.observe('edited by an outsider', await send(outsider, 9002, settings))
  scene.observe('edited', await send(owner, 9002, settings))
  const { name, about, isClosed, isRestricted, isPrivate } = await metadata()
  scene.observe('metadata', { name, about, isClosed, isRestricted, isPrivate })

  scene.observe('post of an outsider', (await post(outsider, 'intruding'))[1])
  scene.observe('read by an outsider', await read(outsider))
  scene.observe('found by an outsider', scene.answer(await outsider.ask({ ids: [first.id] })))
  scene.observe('join without a code', await send(member, 9021))
  scene.observe('invited', await send(owner, 9009, [['code', 'margherita']]))
  scene.observe('join with a wrong code', await send(member, 9021, [['code', 'hawaii']]))
  scene.observe('join', await send(member, 9021, [['code', 'margherita']]))
  scene.observe('join again', await send(member, 9021, [['code', 'margherita'], ['t', 'again']]))
  scene.observe('members', await members())
  scene.observe('codes seen by a member', await member.ask({ kinds: [9009], '#h': [id] })
    .then(({ events, closed }) => closed ? 0 : events.length))

  const [bad, posted] = await post(member, 'bad', [['previous', first.id.slice(0, 8)]])
  scene.observe('post of a member', posted)
  scene.observe('out of context', (await post(member, 'lost', [['previous', '00000000']]))[1])
  scene.observe('read by a member', (await read(member)).sort())
  scene.observe('moderated by a member', await send(member, 9005, [['e', first.id]]))
  scene.observe('moderated', await send(owner, 9005, [['e', bad.id]]))
  scene.observe('after moderation', await read(member))
  scene.observe('moderated and published again', await member.publish(bad))

  scene.observe('promoted', await send(owner, 9000, [['p', member.pubkey, 'moderator']]))
  scene.observe('admins after that', (await admins()).sort())
  scene.observe('left', await send(member, 9022))
  scene.observe('members after that', await members())
  scene.observe('post of who has left', (await post(member, 'farewell'))[1])
  scene.observe('read by who has left', await read(member))

  scene.observe('added', await send(owner, 9000, [['p', outsider.pubkey]]))
  scene.observe('read by who was added', await read(outsider))
  scene.observe('removed', await send(owner, 9001, [['p', outsider.pubkey]]))
  scene.observe('members in the end', await members())

  scene.observe('deleted', await send(owner, 9008))
  scene.observe('of the group', (await owner.ask({ kinds: [9, 9000], '#h': [id] })).events?.length)
  scene.observe('metadata in the end', (await owner.ask({ kinds: [39000], '#d': [id] })).events.length)
  pool.destroy()
}
