//! Links that a computer's own kernel makes: a real WireGuard. The internet is played by
//! namespaces of the computer's.

use rcc_tests::{Security, Vm, links, world};

use super::{ann, boot, root, said_inside};

/// Greets with the address of whoever comes, and waits for the other's end.
const GREETER: &str = r#"
cat > /run/greeter.pl <<'PERL'
use IO::Socket::INET;
$SIG{CHLD} = 'IGNORE';
my $listen = IO::Socket::INET->new(LocalPort => 9999, Listen => 64, ReuseAddr => 1) or die;
while (1) {
    my $client = $listen->accept or next;
    next if fork;
    $client->autoflush(1);
    print $client "from ", $client->peerhost, "\n";
    while (my $line = <$client>) { print $client $line }
    exit;
}
PERL
setsid ip netns exec internet perl /run/greeter.pl </dev/null >/dev/null 2>&1 &
"#;

/// A computer with an internet, and a list that opens one of its servers.
fn connected() -> Option<Vm> {
    let mut vm = boot(Security::AppArmor)?;
    root(&mut vm, &links());
    root(&mut vm, GREETER);
    let list = format!(
        "version: 1\ndefaults: {{users_may_add: public}}\nwhitelist:\n  - {{ip: {}/32, ports: [9999]}}\n",
        world::SERVERS[0]
    );
    root(&mut vm, &format!("printf '{list}' > /etc/rcc/network-whitelist.yaml"));
    ann(&mut vm, "podman import -q ~/image.tar localhost/busy");
    Some(vm)
}

/// What a server greets ann's sandbox with; nothing when it is out of reach.
fn greeting(vm: &mut Vm, server: usize) -> String {
    let script =
        format!("sleep 2 | timeout 5 nc {} 9999 | head -n 1; true", world::SERVERS[server]);
    said_inside(vm, "a", &script)
}

#[test]
fn n22_wireguard_as_wg_quick_sets_it_up_carries_sandboxes_and_gives_them_back() {
    let Some(mut vm) = connected() else { return };
    let vm = &mut vm;
    let by = |address: &str| format!("from {address}");
    let (card, tunnel) = (by(&world::HOST.to_string()), by("10.66.0.2"));
    assert_eq!(greeting(vm, 0), card);
    let tunnel_up = format!(
        "set -e; umask 077; cd /run
         for side in here there; do wg genkey > $side.key; wg pubkey < $side.key > $side.pub; done
         ip -n internet link add wg0 type wireguard
         ip netns exec internet wg set wg0 listen-port 51820 private-key there.key peer $(cat here.pub) allowed-ips 10.66.0.2/32
         ip -n internet addr add 10.66.0.1/24 dev wg0; ip -n internet link set wg0 up
         mkdir -p /etc/wireguard
         printf '[Interface]\\nPrivateKey = %s\\nAddress = 10.66.0.2/32\\n[Peer]\\nPublicKey = %s\\nEndpoint = {router}:51820\\nAllowedIPs = 0.0.0.0/0\\n' \
             $(cat here.key) $(cat there.pub) > /etc/wireguard/wg0.conf
         wg-quick up wg0 2>&1",
        router = world::ROUTER
    );
    for round in 0..2 {
        let said = if round == 0 { root(vm, &tunnel_up) } else { root(vm, "wg-quick up wg0 2>&1") };
        assert!(said.contains("table 51820"), "as its default route is set up: {said}");
        let own = format!("sleep 2 | timeout 5 busybox nc {} 9999 | head -n 1", world::SERVERS[0]);
        assert_eq!(root(vm, &own), tunnel, "the computer goes through it");
        assert_eq!(greeting(vm, 0), tunnel, "and so do sandboxes, round {round}");
        assert_eq!(greeting(vm, 1), "", "the rest stays shut");
        root(vm, "wg-quick down wg0 2>&1");
        assert_eq!(greeting(vm, 0), card, "round {round}");
    }
    let failed = root(vm, "systemctl --failed --no-legend");
    assert_eq!(failed, "", "no unit failed");
}
