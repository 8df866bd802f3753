use super::*;
use crate::NetnsCookie;

struct Fed(std::rc::Rc<std::cell::Cell<bool>>, bool);

impl HarmSource for Fed {
    fn arm(&mut self, _: Instant) {
        self.1 = true;
    }
    fn disarm(&mut self) {
        self.1 = false;
    }
    fn harm(&mut self, _: Instant, places: &[NetnsCookie], _: &mut Namespaces) -> Option<Harm> {
        assert!(self.1, "asked while asleep");
        assert!(!places.is_empty());
        self.0.get().then(|| Harm {
            what: "fed".into(),
            figures: Vec::new(),
        })
    }
}

fn recent(id: i64, netns: u64, old: i64, at: Instant) -> Recent {
    Recent {
        id: DecisionId(id),
        tuner: "t".into(),
        knob: Knob {
            tunable: "net.ipv4.tcp_rmem".into(),
            netns: NetnsCookie(netns),
        },
        old: Value::from(old),
        at,
    }
}

fn watchdog() -> (Watchdog, std::rc::Rc<std::cell::Cell<bool>>, Namespaces) {
    let bad = std::rc::Rc::new(std::cell::Cell::new(false));
    let mut watchdog = Watchdog::new(Settings {
        pressure: "/nowhere".into(),
        oom_kills: false,
        ..Settings::default()
    });
    watchdog.add(Box::new(Fed(bad.clone(), false)));
    (watchdog, bad, Namespaces::new().unwrap())
}

#[test]
fn sleeps_until_a_change_and_after_the_window() {
    let (mut watchdog, bad, mut namespaces) = watchdog();
    let now = Instant::now();
    bad.set(true);
    assert_eq!(watchdog.due(), None);
    assert_eq!(
        watchdog.look(now, None, &mut namespaces),
        None,
        "nothing was changed"
    );
    assert!(watchdog.changed(recent(1, 1, 10, now)));
    assert!(!watchdog.changed(recent(2, 1, 20, now)), "awake already");
    bad.set(false);
    let (mut at, mut looks) = (now, 0);
    while let Some(due) = watchdog.due() {
        assert!(due > at, "time goes on");
        at = due;
        looks += 1;
        assert_eq!(watchdog.look(at, None, &mut namespaces), None);
    }
    let took = at.duration_since(now);
    assert!((300..310).contains(&took.as_secs()), "{took:?}");
    assert!(looks < 50, "{looks} looks");
}

#[test]
fn gives_each_knob_back_once_to_its_oldest_recent_value() {
    let (mut watchdog, bad, mut namespaces) = watchdog();
    let now = Instant::now();
    let later = now + Duration::from_secs(200);
    watchdog.changed(recent(1, 1, 10, now));
    watchdog.changed(recent(2, 1, 20, later));
    watchdog.changed(recent(3, 1, 40, later));
    watchdog.changed(recent(4, 2, 5, later));
    watchdog.changed(recent(5, 3, 5, later));
    watchdog.forget(&recent(0, 3, 0, now).knob);
    bad.set(true);
    let at = now + Duration::from_secs(301);
    assert_eq!(
        watchdog.look(at, None, &mut namespaces).unwrap().what,
        "fed"
    );
    let back: Vec<_> = watchdog
        .take_recent()
        .into_iter()
        .map(|(first, newest)| (first.knob.netns.0, first.old.last(), newest.0))
        .collect();
    assert_eq!(
        back,
        [(1, 20, 3), (2, 5, 4)],
        "the first change is older than the window"
    );
    assert_eq!(watchdog.due(), None);
}

#[test]
fn rests_double_up_to_the_longest_and_begin_anew_after_calm() {
    let (mut watchdog, ..) = watchdog();
    let mut now = Instant::now();
    let mut rest = |after: u64| {
        now += Duration::from_secs(after);
        watchdog.rest("t", now).as_secs()
    };
    assert_eq!((rest(0), rest(700), rest(1300)), (600, 1200, 2400));
    let longest = 6 * 3600;
    assert_eq!(
        (rest(2500), rest(4900), rest(9700), rest(19_300)),
        (4800, 9600, 19_200, longest)
    );
    assert_eq!(rest(30_000), longest);
    assert_eq!(rest(10 * longest), 600);
}
