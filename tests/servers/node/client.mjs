// Two clients of @xmpp/client: alice and bob log in and write to each other.
//
// usage: node client.mjs starttls|direct PORT DOMAIN [PASSWORD_OF_ALICE]
// The authority to trust is named by NODE_EXTRA_CA_CERTS.
//
// Prints one line of JSON and leaves: {"received": {"alice": …, "bob": …}, "tls": …}, each
// message as [sender's bare JID, text], or {"error": …}.
import dns from 'node:dns'
import { client, xml } from '@xmpp/client'

const [transport, port, domain, password] = process.argv.slice(2)

// The library compares the certificate with the host of the service address, which therefore
// is the domain; the machine need not know where that is.
dns.lookup = (name, options, done) =>
  options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)

const protocol = transport === 'direct' ? 'xmpps' : 'xmpp'
const received = {}
let tls = null

function leave(status, report) {
  console.log(JSON.stringify(report))
  process.exit(status)
}

function login(username, secret) {
  const user = client({ service: `${protocol}://${domain}:${port}`, domain, username, password: secret })
  return new Promise((resolve, reject) => {
    user.on('error', reject)
    user.on('online', async () => {
      await user.send(xml('presence'))
      resolve(user)
    })
    user.on('stanza', stanza => {
      if (!stanza.is('message') || !stanza.getChild('body')) return
      received[username] = [stanza.attrs.from.split('/')[0], stanza.getChildText('body')]
      if (received.alice && received.bob) leave(0, { received, tls })
    })
    user.start().catch(reject)
  })
}

function write(user, to, text) {
  return user.send(xml('message', { to: `${to}@${domain}`, type: 'chat' }, xml('body', {}, text)))
}

setTimeout(() => leave(1, { error: 'no answer within 30 seconds', received }), 30000)
try {
  const alice = await login('alice', password ?? 'pw-alice')
  const bob = await login('bob', 'pw-bob')
  const socket = alice.socket?.socket ?? alice.socket
  tls = socket?.getProtocol?.() ?? null
  await write(alice, 'bob', 'Good day, Bob.')
  await write(bob, 'alice', 'Good day, Alice.')
} catch (error) {
  leave(1, { error: String(error) })
}
