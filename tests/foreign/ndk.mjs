// NDK plays scenarios against a relay; see scene.mjs.

import './environment.mjs'
import { play } from './scene.mjs'
import { notes } from './ndk/notes.mjs'
import { deletion, expiration, protection, vanishing } from './ndk/removal.mjs'
import { authentication, messages, privacy } from './ndk/privacy.mjs'
import { counting } from './ndk/counting.mjs'
import { information } from './ndk/information.mjs'

await play({
  notes, deletion, expiration, protection, vanishing, authentication, messages, privacy, counting,
  information,
})
