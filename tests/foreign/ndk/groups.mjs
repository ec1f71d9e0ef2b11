// A group, as NDK's own class for groups handles it (NIP-29).

import { NDKEvent, NDKRelaySet, NDKSimpleGroup } from '@nostr-dev-kit/ndk'
import { seconds } from '../scene.mjs'
import { Party } from './party.mjs'

export async function groups(url, scene) {
  const parties = {}
  for (const name of ['owner', 'member', 'outsider']) {
    parties[name] = await Party.authenticated(url)
    parties[name].ndk.signer = parties[name].signer
  }
  const { owner, member, outsider } = parties
  const nameOf = pubkey => Object.keys(parties).find(name => parties[name].pubkey === pubkey) ?? pubkey
  const id = owner.pubkey.slice(0, 12)
  const groupOf = party => new NDKSimpleGroup(party.ndk, new NDKRelaySet(new Set([party.relay]), party.ndk), id)
  const done = promise => promise.then(relays => [relays.size === 1, ''], error =>
    [false, String([...(error.errors?.values() ?? [])][0]?.message ?? error)])
  const send = async (party, kind, tags = [], content = '') =>
    party.publish(await party.sign(kind, content, [['h', id], ...tags]))
  const post = async (party, name) => {
    const event = scene.called(name, await party.sign(9, name, [['h', id]]))
    return [event, await party.publish(event)]
  }
  const read = async party => scene.answer(await party.ask({ kinds: [9], '#h': [id] }))
  const members = async () => (await groupOf(owner).getMembers()).map(user => nameOf(user.pubkey)).sort()

  scene.observe('created', await done(groupOf(owner).createGroup()))
  scene.observe('created again', await done(groupOf(outsider).createGroup()))
  const described = { name: 'Pizza Lovers', about: 'pizza' }
  scene.observe('edited by an outsider', await done(groupOf(outsider).setMetadata(described)))
  scene.observe('edited', await done(groupOf(owner).setMetadata(described)))
  const { name, about } = await groupOf(owner).getMetadata()
  scene.observe('metadata', { name, about })

  scene.observe('join', await done(groupOf(member).requestToJoin(member.pubkey)))
  scene.observe('join again', await done(groupOf(member).requestToJoin(member.pubkey, 'please')))
  scene.observe('members', await members())
  const [bad, posted] = await post(member, 'bad')
  scene.observe('post of a member', posted)
  const [, answer] = await post(owner, 'good')
  scene.observe('post of the owner', answer)
  scene.observe('moderated by a member', await send(member, 9005, [['e', bad.id]]))
  scene.observe('moderated', await send(owner, 9005, [['e', bad.id]]))
  scene.observe('after moderation', await read(member))

  const adding = await groupOf(owner).addUser(outsider.ndk.getUser({ pubkey: outsider.pubkey }))
  const added = new NDKEvent(owner.ndk, { ...adding.rawEvent(), created_at: seconds(), content: '' })
  await added.sign(owner.signer)
  scene.observe('added', await owner.publish(added))
  scene.observe('left', await send(member, 9022))
  scene.observe('members after that', await members())
  scene.observe('removed', await send(owner, 9001, [['p', outsider.pubkey]]))
  scene.observe('members in the end', await members())
  scene.observe('deleted', await send(owner, 9008))
  scene.observe('metadata in the end', (await owner.ask({ kinds: [39000], '#d': [id] })).events.length)
}
