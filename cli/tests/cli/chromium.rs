//! A real browser without a window, over its own protocol: one page, what it says of itself, and every
//! address that it asks.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// Far beyond what any answer here takes.
const WATCHDOG: Duration = Duration::from_secs(120);

pub(crate) struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    next: u64,
    /// What the page asked for.
    pub(crate) requests: Vec<String>,
    /// What the page or the browser complained of: exceptions, broken policies, failed requests.
    complaints: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts Debian's Chromium with a page of this width.
    pub(crate) fn start(width: u32) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("chromium")
            .args(["--headless", "--disable-gpu", "--disable-dev-shm-usage"])
            // Tests run as root, too, which Chromium's sandbox does not.
            .args([
                "--no-sandbox",
                "--no-first-run",
                "--remote-debugging-port=0",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("no `chromium`: install the Debian package, as .ci/run does");
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let url = loop {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "chromium ended");
            if let Some(url) = line.trim().strip_prefix("DevTools listening on ") {
                break url.to_owned();
            }
        };
        // It must always be able to write.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let address = url
            .strip_prefix("ws://")
            .unwrap()
            .split('/')
            .next()
            .unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        let (socket, _) = tungstenite::client(&url, stream).unwrap();
        let mut browser = Self {
            child,
            socket,
            session: None,
            next: 0,
            requests: Vec::new(),
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.width(width);
        browser
    }

    /// Makes the page this wide, in pixels, as it is on a telephone.
    pub(crate) fn width(&mut self, width: u32) {
        let metrics =
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// What the user's system prefers: `light` or `dark`.
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    pub(crate) fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({"url": url}));
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
        self.until("document.readyState === 'complete'");
    }

    /// Presses and lets go of a key.
    pub(crate) fn press(&mut self, key: &str, text: &str) {
        let down = json!({"type": "keyDown", "key": key, "code": key, "text": text,
            "windowsVirtualKeyCode": if key == "Tab" { 9 } else { 13 }});
        self.call("Input.dispatchKeyEvent", down);
        let up = json!({"type": "keyUp", "key": key, "code": key});
        self.call("Input.dispatchKeyEvent", up);
    }

    /// The value of an expression in the page.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", asked);
        let failed = answer.get("exceptionDetails");
        assert!(failed.is_none(), "{expression}: {failed:?}");
        answer["result"]["value"].clone()
    }

    pub(crate) fn text(&mut self, expression: &str) -> String {
        let value = self.eval(expression);
        let text = value
            .as_str()
            .unwrap_or_else(|| panic!("{expression}: {value}"));
        text.to_owned()
    }

    /// Looks at the page again and again until it is so, but not for ever.
    #[track_caller]
    pub(crate) fn until(&mut self, condition: &str) {
        let deadline = Instant::now() + WATCHDOG;
        while self.eval(condition) != true {
            if Instant::now() > deadline {
                let page = self.eval("document.body.innerText");
                panic!("never: {condition}\n{page}");
            }
        }
    }

    /// Takes a picture of the page, if the variable `SCREENSHOTS` names a directory for it.
    pub(crate) fn picture(&mut self, name: &str) {
        let Some(directory) = std::env::var_os("SCREENSHOTS") else {
            return;
        };
        let taken = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let text = taken["data"].as_str().unwrap();
        let bytes = BASE64_STANDARD.decode(text).unwrap();
        std::fs::write(Path::new(&directory).join(name), bytes).unwrap();
    }

    /// Neither the page nor the browser complained of anything.
    #[track_caller]
    pub(crate) fn is_content(&self) {
        assert!(self.complaints.is_empty(), "{:#?}", self.complaints);
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket
            .send(Message::text(message.to_string()))
            .unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else {
                continue;
            };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.next {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                let url = params["request"]["url"].as_str().unwrap();
                self.requests.push(url.to_owned());
            }
            Some("Runtime.exceptionThrown") => self.complaints.push(params.to_string()),
            Some("Log.entryAdded") => self.complaints.push(params["entry"].to_string()),
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
