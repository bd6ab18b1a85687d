//! Docker itself, as Debian packages it: what its rules do to sandboxes, what opens them,
//! and that containers and sandboxes stay out of each other's way (N2, N12).

use std::net::Ipv4Addr;

use rcc_dbus::Rule;
use rcc_tests::people::{ANN, CAROL, PASSWORD};
use rcc_tests::protocol::Call;
use rcc_tests::{Machine, Release, Sandbox, Seat, Skip, skip, wait_for, world};

use super::firewalls::{line, open};
use super::{boot, install, walls_stand};

/// The port of the computer's at which the container is published.
const PUBLISHED: u16 = 8_080;
/// The first container of Docker's own bridge, and the bridge.
const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
const BRIDGE: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
/// Starts it, with a container that serves a page.
const START: &str = "systemctl start docker && mkdir -p /tmp/tiny/bin && cp /bin/busybox /tmp/tiny/bin/ && \
    tar -C /tmp/tiny -c . | docker import - tiny && \
    docker run -d --restart always --name web -p 8080:80 tiny /bin/busybox sh -c \
    'mkdir -p /www; echo published > /www/index.html; exec busybox httpd -f -p 80 -h /www'";

/// What Docker is there for: the world reaches the container's port, and the container
/// the world.
fn docker_works(machine: &Machine) {
    for (from, address) in [("internet", world::HOST), ("lan", world::HOST_ON_LAN)] {
        let get = format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | ip netns exec {from} busybox nc -w 2 {address} {PUBLISHED}"
        );
        wait_for(|| machine.root(&get).is_ok_and(|page| page.ends_with("published\n")))
            .unwrap_or_else(|_| {
                panic!("{from} reaches the published port: {:?}", machine.root(&get))
            });
    }
    let out = format!("docker exec web /bin/busybox nc -w 2 {} 443 </dev/null", world::SERVERS[0]);
    let said = machine.root(&out).expect("the container reaches the world");
    assert!(said.contains("from "), "{said}");
}

/// No way of the sandbox's leads to the container, though the list names them all.
fn container_is_out_of_reach(sandbox: &Sandbox) {
    for (address, port) in [
        (world::HOST, PUBLISHED),
        (world::HOST_ON_LAN, PUBLISHED),
        (BRIDGE, PUBLISHED),
        (BRIDGE, 80),
        (CONTAINER, 80),
    ] {
        assert!(sandbox.tcp(address, port).is_err(), "{address}:{port} is out of reach");
    }
}

#[test]
fn n12_n2_docker_is_opened_for_sandboxes_and_its_ports_are_not() {
    docker_is_opened_and_its_ports_are_not(Release::Own);
}

#[test]
fn n12_n2_on_debian_13_docker_is_opened_for_sandboxes_and_its_ports_are_not() {
    docker_is_opened_and_its_ports_are_not(Release::Debian13);
}

fn docker_is_opened_and_its_ports_are_not(release: Release) {
    let Some(mut machine) = boot(release) else { return };
    install(&machine, "this.deb");
    // What an administrator may write, it does not open.
    let list = format!(
        "printf 'version: 1\\ndefaults:\\n  users_may_add: private\\nwhitelist:\\n\
         - {{ip: {}/32, ports: [{PUBLISHED}]}}\\n- {{ip: {}/32, ports: [{PUBLISHED}]}}\\n\
         - {{ip: 172.16.0.0/12, ports: [80, {PUBLISHED}]}}\\n' > /etc/rcc/network-whitelist.yaml",
        world::HOST,
        world::HOST_ON_LAN
    );
    machine.root(&list).expect("a list");
    let rules =
        [Rule::tcp("allowed.example", &[443]), Rule::tcp(world::SERVERS[0].to_string(), &[443])];
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    let sandbox = machine.sandbox(&mut ann, &rules).expect("a sandbox");
    assert!(open(&sandbox));

    machine.root(START).expect("Docker");
    // rcc is no wall between Docker and the world, from the first moment.
    docker_works(&machine);
    assert!(!open(&sandbox), "Docker drops what it does not know");
    let said = line(&mut ann, "host-firewall");
    assert!(said.starts_with("bad: docker ") && said.contains("`rcc setup docker`"), "{said}");
    container_is_out_of_reach(&sandbox);

    ann.answer_prompts(CAROL.1, Some(PASSWORD)).expect("an agent");
    ann.call::<()>(&Call::Setup(vec!["docker".into()])).expect("setup");
    let prompts = ann.prompts().expect("prompts");
    assert!(prompts.len() == 1 && prompts[0].1.contains("Docker"), "{prompts:?}");
    assert!(open(&sandbox), "its own passage");
    sandbox.reach("allowed.example", 443).expect("names, too");
    assert!(
        line(&mut ann, "host-firewall").starts_with("ok: "),
        "{}",
        line(&mut ann, "host-firewall")
    );
    let ours = |machine: &Machine| machine.root("iptables -S | grep rcc0 || true").expect("look");
    let passage = "-A DOCKER-USER -o rcc0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
        -A DOCKER-USER -i rcc0 -j ACCEPT\n";
    assert_eq!(ours(&machine), passage, "and nothing else");
    container_is_out_of_reach(&sandbox);
    docker_works(&machine);
    // The computer did not become a router for others by it.
    machine.root("ip -n internet route add 192.168.77.0/24 via 192.0.2.2").expect("a way back");
    let through = format!("ip netns exec lan busybox nc -w 1 {} 443 </dev/null", world::SERVERS[0]);
    assert!(!machine.root(&through).is_ok_and(|said| said.contains("from ")), "a neighbour");
    // N2: the host's table alone keeps sandboxes from published ports.
    machine.root("ip netns exec rcc nft flush set inet rcc host4").expect("flush");
    for address in [world::HOST, world::HOST_ON_LAN, BRIDGE] {
        assert!(sandbox.tcp(address, PUBLISHED).is_err(), "{address} by the host's table");
    }

    machine.root("systemctl restart docker").expect("restart");
    wait_for(|| open(&sandbox)).expect("as before");
    docker_works(&machine);
    // As a new version of Docker's might: the regular check puts it back.
    machine.root("iptables -F DOCKER-USER && iptables -A DOCKER-USER -j RETURN").expect("flush");
    assert!(!open(&sandbox));
    machine.root("systemctl start rcc-whitelist-update").expect("the regular check");
    assert!(open(&sandbox));
    assert_eq!(ours(&machine).lines().count(), 2);
    drop(ann);

    // N10: with Docker at boot, too. The check comes within a minute by itself.
    machine.root("systemctl enable docker").expect("enable");
    machine.reboot().expect("reboot");
    docker_works(&machine);
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    let sandbox = machine.sandbox(&mut ann, &rules).expect("a sandbox");
    container_is_out_of_reach(&sandbox);
    machine.root("systemctl start rcc-whitelist-update").expect("the regular check");
    assert!(open(&sandbox));
    container_is_out_of_reach(&sandbox);
    walls_stand(&sandbox);
    drop(ann);

    // The same where the computer's iptables is the old one.
    if let Err(error) = machine.root("iptables-legacy -S") {
        skip(&Skip(format!("rules of iptables-legacy: {error}")));
    } else {
        machine.root("update-alternatives --set iptables /usr/sbin/iptables-legacy").expect("old");
        machine.reboot().expect("reboot");
        docker_works(&machine);
        machine.root("iptables-legacy -S DOCKER-USER").expect("Docker's rules are old ones");
        let mut ann = machine.person(ANN, Seat::Here).expect("ann");
        let sandbox = machine.sandbox(&mut ann, &rules).expect("a sandbox");
        container_is_out_of_reach(&sandbox);
        machine.root("systemctl start rcc-whitelist-update").expect("the regular check");
        assert!(open(&sandbox));
        assert_eq!(ours(&machine).lines().count(), 2);
        container_is_out_of_reach(&sandbox);
    }

    machine.root("DEBIAN_FRONTEND=noninteractive apt-get purge -y rcc-sandbox").expect("purge");
    assert_eq!(ours(&machine), "", "nothing of ours is left in Docker's chains");
    docker_works(&machine);
}
