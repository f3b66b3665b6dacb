//! One scenario, said to one broker.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use leveret_protocol::{
    ArgumentMut, BasicProperties, ChannelId, ClassId, DeliveryTag, FieldTable, FieldValue, FrameKind, LongString,
    Method, MethodId, PROTOCOL_HEADER, ReplyCode, ShortString, begin_frame, connection, encode_content, end_frame,
    queue,
};

use crate::client::{Connection, Lanes, PATIENCE, Waited, lines};
use crate::masks::Masks;
use crate::script::{Scenario, Statement, Step};
use crate::text::{Argument, Value, Words, show_string};

/// How long nothing must come before a scenario is over.
const QUIET: Duration = Duration::from_millis(150);

/// What a session may ask of the broker besides AMQP.
pub(crate) trait Control {
    fn addr(&self) -> SocketAddr;
    fn vhost(&self) -> &str;
    /// Stops the broker in good order and starts it again.
    fn restart(&mut self) -> Result<(), String>;
    /// Kills the broker, if that can be done without disturbing others, and starts it again.
    fn kill(&mut self) -> Result<(), String>;
    /// Runs a command of rabbitmqctl.
    fn ctl(&mut self, arguments: &[String]) -> Result<String, String>;
}

/// What came back on each channel: `A.1 …`, line by line.
pub(crate) type Transcript = Vec<String>;

/// Says the scenario to the broker.
pub(crate) fn run(scenario: &Scenario, control: &mut dyn Control) -> Result<Transcript, String> {
    let masks = Rc::new(RefCell::new(Masks::new(control.vhost().to_owned())));
    let mut session = Session { control, masks, connections: BTreeMap::new() };
    for step in &scenario.steps {
        session.step(step).map_err(|cause| format!("line {}: {}: {cause}", step.line, step.text))?;
    }
    session.settle();
    Ok(session.transcript())
}

struct Session<'a> {
    control: &'a mut dyn Control,
    masks: Rc<RefCell<Masks>>,
    connections: BTreeMap<String, Connection>,
}

impl Session<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match &step.statement {
            Statement::Connect { connection, arguments } => self.connect(connection, arguments, true),
            Statement::Send { connection, channel, waits, opens, method, arguments } => {
                self.send(connection, *channel, method, arguments, *waits, *opens)
            }
            Statement::Frame { connection, channel, words } => self.frame(connection, *channel, words),
            Statement::Octets { connection, octets } => {
                let octets = octets.octets(&self.resolver())?;
                self.raw(connection)?.send_octets(&octets);
                Ok(())
            }
            Statement::Hold { connection } => {
                self.raw(connection)?.hold();
                Ok(())
            }
            Statement::Flush { connection } => {
                self.raw(connection)?.flush();
                Ok(())
            }
            Statement::Drip { connection } => {
                self.raw(connection)?.drip();
                Ok(())
            }
            Statement::Shut { connection } => {
                self.raw(connection)?.shut();
                Ok(())
            }
            Statement::Drop { connection } => {
                self.raw(connection)?.reset();
                Ok(())
            }
            Statement::Wait { connection, channel, what, count, between } => {
                self.wait(connection, *channel, what, *count, *between)
            }
            Statement::Confirms { connection, channel, up_to } => self.confirms(connection, *channel, *up_to),
            Statement::Ready { connection, channel, queue, at_least, at_most } => {
                self.ready(connection, *channel, queue, *at_least, *at_most)
            }
            Statement::Gone { connection, channel, queue } => self.gone(connection, *channel, queue),
            Statement::Drain { connection, channel, queue } => self.drain(connection, *channel, queue),
            Statement::Sleep(time) => {
                self.sleep(*time);
                Ok(())
            }
            Statement::Restart => self.restart(false),
            Statement::Kill => self.restart(true),
            Statement::Ctl(arguments) => {
                let masks = self.masks.borrow();
                let resolve = |word: &String| String::from_utf8_lossy(&masks.resolve(word.as_bytes())).into_owned();
                let arguments: Vec<String> = arguments.iter().map(resolve).collect();
                drop(masks);
                self.control.ctl(&arguments).map(drop)
            }
        }
    }

    fn resolver(&self) -> impl Fn(&[u8]) -> Vec<u8> + use<> {
        let masks = Rc::clone(&self.masks);
        move |octets| masks.borrow().resolve(octets)
    }

    /// The connection of that name, opened with defaults if there is none.
    fn at(&mut self, name: &str) -> Result<&mut Connection, String> {
        if !self.connections.contains_key(name) {
            self.connect(name, &[], false)?;
        }
        self.connections.get_mut(name).ok_or_else(|| "the connection is gone".to_owned())
    }

    /// The connection of that name; if there is none, a socket on which nothing has been said.
    fn raw(&mut self, name: &str) -> Result<&mut Connection, String> {
        if !self.connections.contains_key(name) {
            self.dial(name)?;
        }
        self.connections.get_mut(name).ok_or_else(|| "the connection is gone".to_owned())
    }

    fn dial(&mut self, name: &str) -> Result<&mut Connection, String> {
        let lanes = self.connections.remove(name).map_or_else(Lanes::new, |old| old.lanes);
        let connection = Connection::open(self.control.addr(), Rc::clone(&self.masks), lanes)?;
        self.connections.insert(name.to_owned(), connection);
        self.connections.get_mut(name).ok_or_else(|| "the connection is gone".to_owned())
    }

    /// Opens a connection. What the broker says on the way is shown if the scenario asked for it.
    fn connect(&mut self, name: &str, arguments: &[Argument], shows: bool) -> Result<(), String> {
        let options = ConnectOptions::new(arguments, self.control.vhost(), &self.resolver())?;
        let connection = self.dial(name)?;
        connection.shows = shows;
        connection.answers_close = !options.leaves_close;
        connection.send_octets(&PROTOCOL_HEADER);
        options.shake_hands(connection);
        connection.shows = true;
        let is_running = connection.count(0, "connection.open-ok") > 0;
        if !shows && !is_running {
            return Err("the connection cannot be opened".to_owned());
        }
        Ok(())
    }

    fn send(
        &mut self,
        name: &str,
        channel: u16,
        method: &str,
        arguments: &[Argument],
        waits: bool,
        opens: bool,
    ) -> Result<(), String> {
        let resolve = self.resolver();
        let connection = self.at(name)?;
        if connection.is_ended {
            connection.note(channel, format!("(not sent: {method})"));
            return Ok(());
        }
        if opens && !connection.is_open(channel) && method != "channel.open" {
            call(connection, channel, &Method::named("channel.open").ok_or("no channel.open")?);
        }
        let mut content = ContentOptions::default();
        let plain: Vec<&Argument> = arguments.iter().filter(|argument| !content.take(argument)).collect();
        for number in 1..=content.times()? {
            let fill = |octets: &[u8]| {
                let text = String::from_utf8_lossy(octets).replace("%n", &number.to_string());
                if text.contains('\u{FFFD}') { resolve(octets) } else { resolve(text.as_bytes()) }
            };
            let mut properties = BasicProperties::default();
            let method = fill_in(method, &plain, &mut properties, &fill)?;
            if method.has_content() {
                connection.send(channel, &method);
                if content.is_bare {
                    continue;
                }
                let mut octets = Vec::new();
                let mut property_octets = Vec::new();
                properties.encode(&mut property_octets);
                let body = content.body(&fill)?;
                encode_content(ChannelId::new(channel), &property_octets, &body, connection.frame_max, &mut octets);
                connection.send_octets(&octets);
            } else if waits {
                call(connection, channel, &method);
            } else {
                connection.send(channel, &method);
            }
        }
        Ok(())
    }

    fn frame(&mut self, name: &str, channel: u16, words: &str) -> Result<(), String> {
        let resolve = self.resolver();
        let octets = frame_octets(channel, words, &resolve)?;
        self.raw(name)?.send_octets(&octets);
        Ok(())
    }

    fn wait(
        &mut self,
        name: &str,
        channel: u16,
        what: &str,
        count: usize,
        between: Option<(Duration, Duration)>,
    ) -> Result<(), String> {
        let connection = self.raw(name)?;
        let patience = between.map_or(PATIENCE, |(_, latest)| latest + Duration::from_secs(3));
        let started = Instant::now();
        let waited = match what {
            "eof" => {
                let was_closing = std::mem::replace(&mut connection.is_closing, false);
                let waited = connection.wait_until(patience, |connection| connection.is_ended);
                connection.is_closing |= was_closing;
                waited
            }
            _ => connection.wait_for(channel, &[what], count, patience),
        };
        let took = started.elapsed();
        match (waited, between) {
            (Waited::TimedOut, _) => connection.note(channel, format!("(waited for {what} in vain)")),
            (Waited::Closed, _) => connection.note(channel, format!("(closed while waiting for {what})")),
            (Waited::Met, None) => {}
            (Waited::Met, Some((from, to))) => {
                let verdict = match took {
                    took if took < from => format!("too early, after {} ms", took.as_millis()),
                    took if took > to => format!("too late, after {} ms", took.as_millis()),
                    _ => "in time".to_owned(),
                };
                connection.note(channel, format!("({what} {verdict})"));
            }
        }
        Ok(())
    }

    fn confirms(&mut self, name: &str, channel: u16, up_to: u64) -> Result<(), String> {
        let connection = self.at(name)?;
        let closed_before = connection.count(channel, "channel.close");
        let waited = connection.wait_until(PATIENCE, |connection| {
            connection.is_settled(channel, up_to) || connection.count(channel, "channel.close") > closed_before
        });
        if waited == Waited::TimedOut {
            connection.note(channel, format!("(waited for confirms up to {up_to} in vain)"));
        }
        Ok(())
    }

    /// The ready messages of a queue, asked for without showing it.
    fn ask(&mut self, name: &str, channel: u16, asked: &Value) -> Result<Option<u32>, String> {
        let queue = asked.short(&self.resolver())?;
        let connection = self.at(name)?;
        if !connection.is_open(channel) {
            call(connection, channel, &Method::named("channel.open").ok_or("no channel.open")?);
        }
        let declare = queue::Declare { queue, passive: true, ..queue::Declare::default() };
        match connection.call_muted(channel, &declare.into()) {
            Some(Method::QueueDeclareOk(ok)) => Ok(Some(ok.message_count)),
            Some(_) => Ok(None),
            None => Err("no answer to a passive declare".to_owned()),
        }
    }

    fn ready(&mut self, name: &str, channel: u16, queue: &Value, at_least: u32, at_most: u32) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE / 2;
        let shown = show_string(&queue.octets(&<[u8]>::to_vec)?);
        loop {
            let found = self.ask(name, channel, queue)?;
            let range = if at_least == at_most { at_least.to_string() } else { format!("{at_least} to {at_most}") };
            let note = match found {
                Some(count) if (at_least..=at_most).contains(&count) => format!("({shown} has {range} ready)"),
                None => format!("({shown} is gone)"),
                Some(count) if Instant::now() > deadline => format!("({shown} has {count} ready, not {range})"),
                Some(_) => {
                    std::thread::sleep(Duration::from_millis(15));
                    continue;
                }
            };
            self.at(name)?.note(channel, note);
            return Ok(());
        }
    }

    fn gone(&mut self, name: &str, channel: u16, queue: &Value) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE / 2;
        let shown = show_string(&queue.octets(&<[u8]>::to_vec)?);
        while self.ask(name, channel, queue)?.is_some() {
            if Instant::now() > deadline {
                self.at(name)?.note(channel, format!("({shown} is still there)"));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(15));
        }
        self.at(name)?.note(channel, format!("({shown} is gone)"));
        Ok(())
    }

    fn drain(&mut self, name: &str, channel: u16, queue: &Value) -> Result<(), String> {
        let arguments = [("queue".to_owned(), Some(queue.clone())), ("no-ack".to_owned(), None)];
        loop {
            let empty = self.at(name)?.count(channel, "basic.get-empty");
            let closed = self.at(name)?.count(channel, "channel.close");
            self.send(name, channel, "basic.get", &arguments, true, true)?;
            let connection = self.at(name)?;
            if connection.count(channel, "basic.get-empty") > empty
                || connection.count(channel, "channel.close") > closed
                || connection.is_ended
            {
                return Ok(());
            }
        }
    }

    /// Lets time pass, taking what comes.
    fn sleep(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if !self.poll() {
                std::thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(5)));
            }
        }
    }

    /// Takes what has come on any connection; whether anything had.
    fn poll(&mut self) -> bool {
        let poll = |connection: &mut Connection| {
            connection.flush();
            connection.read(Duration::from_millis(1))
        };
        self.connections.values_mut().map(poll).fold(false, |any, one| any | one)
    }

    fn restart(&mut self, kills: bool) -> Result<(), String> {
        if kills {
            // How the connections end is the operating system's affair.
            self.connections.values_mut().for_each(|connection| connection.shows = false);
            self.control.kill()?;
        } else {
            self.control.restart()?;
        }
        for connection in self.connections.values_mut() {
            connection.wait_until(PATIENCE, |connection| connection.is_ended);
        }
        // The next statement dials anew; what came stays.
        let names: Vec<String> = self.connections.keys().cloned().collect();
        for name in names {
            self.connect(&name, &[], false)?;
        }
        Ok(())
    }

    /// Waits until nothing comes any more.
    fn settle(&mut self) {
        let mut quiet_since = Instant::now();
        let give_up = quiet_since + PATIENCE;
        while quiet_since.elapsed() < QUIET && Instant::now() < give_up {
            if self.poll() {
                quiet_since = Instant::now();
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn transcript(&self) -> Transcript {
        let mut transcript = Vec::new();
        for (name, connection) in &self.connections {
            for (channel, events) in &connection.lanes {
                transcript.extend(lines(events).into_iter().map(|line| match channel {
                    0 => format!("{name} {line}"),
                    channel => format!("{name}.{channel} {line}"),
                }));
            }
        }
        transcript
    }
}

/// Sends a method and waits for its reply, if it has one.
fn call(connection: &mut Connection, channel: u16, method: &Method) {
    connection.send(channel, method);
    let no_wait = method
        .clone()
        .arguments_mut()
        .iter()
        .any(|(name, argument)| *name == "no_wait" && matches!(argument, ArgumentMut::Bit(true)));
    let ok = format!("{}-ok", method.name());
    let names: &[&str] = match method.name() {
        "basic.get" => &["basic.get-ok", "basic.get-empty"],
        name if name.ends_with("-ok") => return,
        _ if no_wait || Method::named(&ok).is_none() => return,
        _ => &[&ok],
    };
    match connection.wait_for(channel, names, 1, PATIENCE) {
        Waited::Met | Waited::Closed => {}
        Waited::TimedOut => connection.note(channel, format!("(no answer to {})", method.name())),
    }
}

/// The method of that name with these arguments; those that are properties go there.
fn fill_in(
    name: &str,
    arguments: &[&Argument],
    properties: &mut BasicProperties,
    resolve: &dyn Fn(&[u8]) -> Vec<u8>,
) -> Result<Method, String> {
    let mut method = Method::named(name).ok_or("no such method")?;
    if let Method::ConnectionClose(connection::Close { reply_code, .. })
    | Method::ChannelClose(leveret_protocol::channel::Close { reply_code, .. }) = &mut method
    {
        *reply_code = ReplyCode::REPLY_SUCCESS;
    }
    let has_content = method.has_content();
    'arguments: for (argument, value) in arguments {
        for (field, target) in method.arguments_mut() {
            // `type` is no name in Rust.
            if field.replace('_', "-") == *argument || (field == "kind" && argument == "type") {
                set(target, value.as_ref(), resolve).map_err(|cause| format!("{argument}: {cause}"))?;
                continue 'arguments;
            }
        }
        match value {
            Some(value) if has_content => set_property(properties, argument, value, resolve)?,
            _ => return Err(format!("{name} has no argument '{argument}'")),
        }
    }
    Ok(method)
}

fn set(target: ArgumentMut<'_>, value: Option<&Value>, resolve: &dyn Fn(&[u8]) -> Vec<u8>) -> Result<(), String> {
    let Some(value) = value else {
        let ArgumentMut::Bit(bit) = target else { return Err("a value is missing".to_owned()) };
        *bit = true;
        return Ok(());
    };
    match target {
        ArgumentMut::Bit(bit) => *bit = value.flag()?,
        ArgumentMut::U8(number) => *number = value.number()?,
        ArgumentMut::U16(number) => *number = value.number()?,
        ArgumentMut::U32(number) => *number = value.number()?,
        ArgumentMut::U64(number) => *number = value.number()?,
        ArgumentMut::ClassId(id) => *id = ClassId::new(value.number()?),
        ArgumentMut::MethodId(id) => *id = MethodId::new(value.number()?),
        ArgumentMut::ReplyCode(code) => *code = ReplyCode::new(value.number()?),
        ArgumentMut::DeliveryTag(tag) => *tag = DeliveryTag::new(value.number()?),
        ArgumentMut::ShortString(string) => *string = value.short(resolve)?,
        ArgumentMut::LongString(string) => *string = value.long(resolve)?,
        ArgumentMut::Table(table) => *table = value.table(resolve)?,
    }
    Ok(())
}

fn set_property(
    properties: &mut BasicProperties,
    name: &str,
    value: &Value,
    resolve: &dyn Fn(&[u8]) -> Vec<u8>,
) -> Result<(), String> {
    let string = match name {
        "headers" => {
            properties.headers = Some(value.table(resolve)?);
            return Ok(());
        }
        "delivery-mode" => {
            properties.delivery_mode = Some(value.number()?);
            return Ok(());
        }
        "priority" => {
            properties.priority = Some(value.number()?);
            return Ok(());
        }
        "timestamp" => {
            properties.timestamp = Some(value.number()?);
            return Ok(());
        }
        "content-type" => &mut properties.content_type,
        "content-encoding" => &mut properties.content_encoding,
        "correlation-id" => &mut properties.correlation_id,
        "reply-to" => &mut properties.reply_to,
        "expiration" => &mut properties.expiration,
        "message-id" => &mut properties.message_id,
        "type" => &mut properties.kind,
        "user-id" => &mut properties.user_id,
        "app-id" => &mut properties.app_id,
        "cluster-id" => &mut properties.cluster_id,
        _ => return Err(format!("there is no argument or property '{name}'")),
    };
    *string = Some(value.short(resolve)?);
    Ok(())
}

/// What a statement says of a content besides its properties.
#[derive(Default)]
struct ContentOptions {
    body: Option<Value>,
    size: Option<Value>,
    times: Option<Value>,
    /// Only the method is sent; header and body are frames put together by hand.
    is_bare: bool,
}

impl ContentOptions {
    fn take(&mut self, argument: &Argument) -> bool {
        let slot = match argument.0.as_str() {
            "bare" => {
                self.is_bare = true;
                return true;
            }
            "body" => &mut self.body,
            "size" => &mut self.size,
            "times" => &mut self.times,
            _ => return false,
        };
        slot.clone_from(&argument.1);
        true
    }

    fn times(&self) -> Result<u64, String> {
        self.times.as_ref().map_or(Ok(1), Value::number)
    }

    fn body(&self, resolve: &dyn Fn(&[u8]) -> Vec<u8>) -> Result<Vec<u8>, String> {
        match (&self.body, &self.size) {
            (Some(body), _) => body.octets(resolve),
            (None, Some(size)) => Ok((0..=250).cycle().take(size.number()?).collect()),
            (None, None) => Ok(Vec::new()),
        }
    }
}

/// `frame KIND [OCTETS] [end=205] [length=9]`, `frame header class=60 weight=0 size=5 [octets=…] [PROPERTY=…]`
fn frame_octets(channel: u16, words: &str, resolve: &dyn Fn(&[u8]) -> Vec<u8>) -> Result<Vec<u8>, String> {
    let mut words = Words::new(words);
    let kind = match words.word().unwrap_or_default() {
        "method" => 1,
        "header" => 2,
        "body" => 3,
        "heartbeat" => 8,
        number => number.parse().map_err(|_| format!("'{number}' is no kind of frame"))?,
    };
    let mut payload = Vec::new();
    let is_payload = |word: &str| word.starts_with('"') || !word.is_empty() && !word.contains('=');
    if is_payload(words.rest().split(' ').next().unwrap_or_default()) {
        let rest = words.rest();
        words = Words::new(rest);
        payload = words.value(&[' '])?.octets(resolve)?;
    }
    let arguments = words.arguments()?;
    let find = |name: &str| arguments.iter().find(|(found, _)| found == name).and_then(|(_, value)| value.as_ref());
    if kind == 2 && payload.is_empty() {
        let number = |name: &str, default: u64| find(name).map_or(Ok(default), Value::number::<u64>);
        let narrow = |number: u64| u16::try_from(number).map_err(|_| "class or weight are too large".to_owned());
        payload.extend(narrow(number("class", 60)?)?.to_be_bytes());
        payload.extend(narrow(number("weight", 0)?)?.to_be_bytes());
        payload.extend(number("size", 0)?.to_be_bytes());
        let mut properties = BasicProperties::default();
        for (name, value) in &arguments {
            if let (false, Some(value)) =
                (["class", "weight", "size", "octets", "end", "length"].contains(&name.as_str()), value)
            {
                set_property(&mut properties, name, value, resolve)?;
            }
        }
        match find("octets") {
            Some(octets) => payload.extend(octets.octets(resolve)?),
            None => properties.encode(&mut payload),
        }
    }
    let mut octets = Vec::new();
    let mark = begin_frame(&mut octets, FrameKind::Body, ChannelId::new(channel));
    octets[mark] = kind;
    octets.extend_from_slice(&payload);
    end_frame(&mut octets, mark);
    if let Some(end) = find("end")
        && let Some(last) = octets.last_mut()
    {
        *last = end.number()?;
    }
    if let Some(length) = find("length") {
        octets[mark + 3..mark + 7].copy_from_slice(&length.number::<u32>()?.to_be_bytes());
    }
    Ok(octets)
}

/// How a connection is opened.
struct ConnectOptions {
    /// The last method that the client sends.
    until: String,
    start_ok: connection::StartOk,
    tune_ok: [Option<u32>; 3],
    vhost: ShortString,
    leaves_close: bool,
}

/// The capabilities of a usual client.
const CAPABILITIES: [&str; 6] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "authentication_failure_close",
];

impl ConnectOptions {
    fn new(arguments: &[Argument], vhost: &str, resolve: &dyn Fn(&[u8]) -> Vec<u8>) -> Result<Self, String> {
        let short = |text: &str| ShortString::try_from(text).map_err(|error| error.to_string());
        let (mut user, mut password) = (b"guest".to_vec(), b"guest".to_vec());
        let mut response = None;
        let mut capabilities: Vec<String> = CAPABILITIES.map(str::to_owned).to_vec();
        let mut properties = FieldTable::new();
        let mut options = Self {
            until: "open".to_owned(),
            start_ok: connection::StartOk {
                mechanism: short("PLAIN")?,
                locale: short("en_US")?,
                ..connection::StartOk::default()
            },
            tune_ok: [None, None, Some(0)],
            vhost: short(vhost)?,
            leaves_close: false,
        };
        for (name, value) in arguments {
            let value = value.as_ref();
            let given = value.ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "user" => user = given?.octets(resolve)?,
                "password" => password = given?.octets(resolve)?,
                "response" => response = Some(given?.long(resolve)?),
                "mechanism" => options.start_ok.mechanism = given?.short(resolve)?,
                "locale" => options.start_ok.locale = given?.short(resolve)?,
                "vhost" => options.vhost = given?.short(resolve)?,
                "channel-max" => options.tune_ok[0] = Some(given?.number()?),
                "frame-max" => options.tune_ok[1] = Some(given?.number()?),
                "heartbeat" => options.tune_ok[2] = Some(given?.number()?),
                "capabilities" => {
                    let listed = given?.text()?;
                    capabilities = listed.split(',').filter(|name| *name != "none").map(str::to_owned).collect();
                }
                "properties" => properties = given?.table(resolve)?,
                "until" => options.until = given?.text()?,
                "leaves-close" => options.leaves_close = true,
                _ => return Err(format!("a connection has no option '{name}'")),
            }
        }
        let mut client = FieldTable::new();
        let capabilities: FieldTable = capabilities
            .iter()
            .map(|name| Ok((short(name)?, FieldValue::Boolean(true))))
            .collect::<Result<_, String>>()?;
        client.push(short("product")?, short("differential")?);
        client.push(short("capabilities")?, capabilities);
        for (name, value) in properties {
            client.insert(name, value);
        }
        options.start_ok.client_properties = client;
        let plain = [&b"\0"[..], &user, b"\0", &password].concat();
        options.start_ok.response = match response {
            Some(response) => response,
            None => LongString::try_from(plain).map_err(|error| error.to_string())?,
        };
        Ok(options)
    }

    /// Says what a client says; stops where `until` says, or where the broker does not go on.
    fn shake_hands(&self, connection: &mut Connection) {
        let reaches = |step: &str| {
            let steps = ["header", "start-ok", "tune-ok", "open"];
            let place = |name: &str| steps.iter().position(|known| *known == name);
            place(&self.until) >= place(step)
        };
        let came = |connection: &mut Connection, name: &str| {
            connection.wait_for(0, &[name], 1, PATIENCE);
            connection.count(0, name) > 0
        };
        if !came(connection, "connection.start") || !reaches("start-ok") {
            return;
        }
        connection.send(0, &self.start_ok.clone().into());
        if !came(connection, "connection.tune") || !reaches("tune-ok") {
            return;
        }
        let frame_max = self.tune_ok[1].unwrap_or(connection.frame_max);
        connection.frame_max = frame_max;
        let narrow =
            |number: Option<u32>, default| number.map_or(default, |number| u16::try_from(number).unwrap_or(u16::MAX));
        let tune_ok = connection::TuneOk {
            channel_max: narrow(self.tune_ok[0], 2047),
            frame_max,
            heartbeat: narrow(self.tune_ok[2], 0),
        };
        connection.send(0, &tune_ok.into());
        if reaches("open") {
            let open = connection::Open { virtual_host: self.vhost.clone(), ..connection::Open::default() };
            connection.send(0, &open.into());
            came(connection, "connection.open-ok");
        }
    }
}
