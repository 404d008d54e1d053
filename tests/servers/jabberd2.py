"""jabberd2 without TLS, as one finds it behind Bascule: router, session manager, c2s, s2s.

Its configuration is our own, not the package's, which only root may read.
"""

import sqlite3
from pathlib import Path
from string import Template

from tests.servers.dns.unbound import NameServer
from tests.servers.program import HOST, Program, free_port

DOMAIN = "jabberd2.test"

PROGRAMS = [Path(f"/usr/sbin/jabberd2-{part}") for part in ("router", "sm", "c2s", "s2s")]

_SECRET = "made-up"

_ROUTER = Template("""\
<router>
  <id>router</id>
  <log type='stdout'/>
  <local><ip>$host</ip><port>$router_port</port><users>$directory/users.xml</users></local>
  <io><max_fds>64</max_fds></io>
  <aci><acl type='all'><user>jabberd</user></acl></aci>
</router>
""")

_USERS = f"<users><user><name>jabberd</name><secret>{_SECRET}</secret></user></users>\n"

_TO_ROUTER = f"""\
  <router>
    <ip>$host</ip><port>$router_port</port>
    <user>jabberd</user><pass>{_SECRET}</pass>
    <retry><init>10</init><lost>1</lost><sleep>1</sleep></retry>
  </router>
  <log type='stdout'/>
"""

_SESSION_MANAGER = Template(f"""\
<sm>
  <id>sm</id>
{_TO_ROUTER}
  <local><id>$domain</id></local>
  <storage>
    <path>$modules</path>
    <driver>sqlite</driver>
    <sqlite><dbname>$directory/sqlite.db</dbname><busy-timeout>2000</busy-timeout></sqlite>
  </storage>
  <modules>
    <path>$modules</path>
    <chain id='in-sess'>
      <module>validate</module><module>roster</module><module>iq-ping</module>
      <module>disco</module><module>offline</module>
      <module>presence</module><module>deliver</module>
    </chain>
    <chain id='in-router'>
      <module>session</module><module>validate</module><module>presence</module>
    </chain>
    <chain id='pkt-sm'>
      <module>iq-ping</module><module>iq-version</module><module>disco</module>
      <module>presence</module>
    </chain>
    <chain id='pkt-user'>
      <module>roster</module><module>presence</module><module>disco</module>
      <module>deliver</module><module>offline</module>
    </chain>
    <chain id='pkt-router'><module>session</module><module>disco</module></chain>
    <chain id='user-load'><module>active</module><module>roster</module></chain>
    <chain id='user-create'><module>active</module></chain>
    <chain id='user-delete'><module>active</module><module>roster</module></chain>
  </modules>
</sm>
""")

_C2S = Template(f"""\
<c2s>
  <id>c2s</id>
{_TO_ROUTER}
  <local><id realm='$domain'>$domain</id><ip>$host</ip><port>$port</port></local>
  <io>
    <max_fds>256</max_fds>
    <limits><bytes>0</bytes><stanzasize>$stanza_bytes</stanzasize></limits>
  </io>
  <authreg>
    <path>$modules</path>
    <module>sqlite</module>
    <mechanisms>
      <traditional><plain/><digest/></traditional>
      <sasl><plain/><digest-md5/></sasl>
    </mechanisms>
    <sqlite>
      <dbname>$directory/sqlite.db</dbname>
      <busy-timeout>2000</busy-timeout>
      <password_type><plaintext/></password_type>
    </sqlite>
  </authreg>
</c2s>
""")

# A host or an answer that failed once would otherwise be left alone for minutes.
_S2S = Template(f"""\
<s2s>
  <id>s2s</id>
{_TO_ROUTER}
  <local><ip>$host</ip><port>$s2s_port</port>$certificate</local>
  <io><max_fds>256</max_fds><limits><stanzasize>$stanza_bytes</stanzasize></limits></io>
  <check><interval>1</interval><queue>10</queue></check>
  <lookup>
    <srv>xmpp-server</srv>
    <min-ttl>1</min-ttl><max-ttl>1</max-ttl><bad-host-timeout>0</bad-host-timeout><no-cache/>
  </lookup>
  $reuse
</s2s>
""")

# Only the tables of the modules above; their names and columns are the storage interface.
_TABLES = """\
create table "authreg" ("username" text, "realm" text, "password" text);
create table "active" (
    "collection-owner" text, "object-sequence" integer primary key, "time" integer);
create table "roster-items" (
    "collection-owner" text, "object-sequence" integer primary key, "jid" text, "name" text,
    "to" boolean, "from" boolean, "ask" integer);
create table "roster-groups" (
    "collection-owner" text, "object-sequence" integer primary key, "jid" text, "group" text);
create table "queue" (
    "collection-owner" text, "object-sequence" integer primary key, "xml" text);
"""


class Jabberd2(Program):
    """A jabberd2 that serves one domain in plaintext to the accounts alice and bob.

    It offers PLAIN, DIGEST-MD5 and ``jabber:iq:auth``; the password of NAME is ``pw-NAME``.

    Args:
        directory: its state.
        stanza_bytes: the largest stanza it takes.
        domain: the domain.

    Attributes:
        certificate: a certificate and its private key for streams between servers. With one it
            knows TLS there, without requiring it, and opens streams with a header of XMPP 1.0 that
            says between whom; without one its header says nothing.
        one_stream: whether all domains whose servers have the same address share one stream.
    """

    def __init__(
        self, directory: Path, *, stanza_bytes: int = 8_000_000, domain: str = DOMAIN
    ) -> None:
        self.port = free_port()
        self.router_port = free_port()
        self.s2s_port = free_port()
        self.domain = domain
        self.stanza_bytes = stanza_bytes
        self._names: NameServer | None = None
        self.certificate: tuple[Path, Path] | None = None
        self.one_stream = False
        super().__init__("jabberd2", directory, [self.port])

    def federate(self, names: NameServer) -> None:
        """Let it be reached by other servers, and reach them, from its next start on.

        It is reached on `s2s_port` and knows server dialback only.

        Args:
            names: the name server that it asks.
        """
        self._names = names
        self.ports = (self.port, self.s2s_port)

    def start(self) -> None:
        """Write its configuration and accounts, then start it."""
        self._write_configuration()
        database = self.directory / "sqlite.db"
        if not database.exists():
            self._write_accounts(database)
        router, session_manager, c2s, s2s = PROGRAMS
        # The parts give up if the router is not there, and c2s takes logins before the session
        # manager has announced its domain to the router.
        self.launch(router, "-c", self.directory / "router.xml")
        self.wait_until_ready(self.router_port)
        self.launch(session_manager, "-c", self.directory / "sm.xml")
        self.wait_for_log(f"[{self.domain}] online")
        self.launch(c2s, "-c", self.directory / "c2s.xml")
        if self._names:
            environment = {"NAMESERVERS": HOST, "RES_OPTIONS": f"port:{self._names.port}"}
            self.launch(s2s, "-c", self.directory / "s2s.xml", environment=environment)
        self.wait_until_ready()

    def _write_configuration(self) -> None:
        values = {
            "certificate": self._pemfile(),
            "directory": self.directory,
            "domain": self.domain,
            "host": HOST,
            "modules": modules(),
            "port": self.port,
            "reuse": "<out-conn-reuse/>" if self.one_stream else "",
            "router_port": self.router_port,
            "s2s_port": self.s2s_port,
            "stanza_bytes": self.stanza_bytes,
        }
        parts = {"router": _ROUTER, "sm": _SESSION_MANAGER, "c2s": _C2S, "s2s": _S2S}
        for part, template in parts.items():
            (self.directory / f"{part}.xml").write_text(template.substitute(values))
        (self.directory / "users.xml").write_text(_USERS)

    def _pemfile(self) -> str:
        """Return the option of its certificate, if there is one."""
        if self.certificate is None:
            return ""
        file = self.directory / "s2s.pem"
        file.touch(mode=0o600)
        file.write_bytes(b"".join(path.read_bytes() for path in self.certificate))
        return f"<pemfile>{file}</pemfile>"

    def _write_accounts(self, path: Path) -> None:
        database = sqlite3.connect(path)
        database.executescript(_TABLES)
        for name in ("alice", "bob"):
            database.execute(
                "insert into authreg values (?, ?, ?)", (name, self.domain, f"pw-{name}")
            )
            database.execute("insert into active values (?, null, 0)", (f"{name}@{self.domain}",))
        database.commit()
        database.close()


def modules() -> Path | None:
    """Return the folder of jabberd2's modules, which depends on the machine's architecture."""
    return next(Path("/usr/lib").glob("*/jabberd2"), None)
