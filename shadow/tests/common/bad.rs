//! A candidate that fails in every way that a bus can fail.
#![allow(dead_code, reason = "no test uses all of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use eventbus_trait::rpc::{Call, CallError, Reply, ServeError, Service, Serving};
use eventbus_trait::{
    BatchRefused, ConnectError, Event, EventBus, EventSource, Item, PublishError, Publisher,
    PublisherId, Receipt, Refused, ShutdownError, Stats, Subscribe, SubscribeError, Subscription,
    Topic, TryPublishError, TryRecvError,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    PanicsInPublish,
    PanicsInSubscribe,
    PanicsInConnect,
    PanicsInReceive,
    PanicsInShutdown,
    PanicsInDrop,
    RefusesEvents,
    RefusesSubscriptions,
    RefusesHandles,
    HangsInPublish,
    HangsInSubscribe,
    HangsInConnect,
    HangsInShutdown,
    NeverDelivers,
    EndsSubscriptions,
    BlocksInPublish,
    BlocksInSubscribe,
    BlocksInReceive,
    IsSlow,
    PanicsInCall,
    HangsInCall,
    BlocksInCall,
    RefusesCalls,
    PanicsInServe,
    HangsInServe,
    BlocksInServe,
    /// Every few events it delivers one after the next, if that is of another publisher.
    MixesPublishers,
    /// As a primary: its subscriptions stand long before it says so.
    SubscribesAtLeisure,
}

impl Bad {
    pub(crate) const ALL: [Self; 19] = [
        Self::PanicsInPublish,
        Self::PanicsInSubscribe,
        Self::PanicsInConnect,
        Self::PanicsInReceive,
        Self::PanicsInShutdown,
        Self::PanicsInDrop,
        Self::RefusesEvents,
        Self::RefusesSubscriptions,
        Self::RefusesHandles,
        Self::HangsInPublish,
        Self::HangsInSubscribe,
        Self::HangsInConnect,
        Self::HangsInShutdown,
        Self::NeverDelivers,
        Self::EndsSubscriptions,
        Self::BlocksInPublish,
        Self::BlocksInSubscribe,
        Self::BlocksInReceive,
        Self::IsSlow,
    ];
}

impl Bad {
    /// What a candidate can do to calls.
    pub(crate) const CALLS: [Self; 7] = [
        Self::PanicsInCall,
        Self::HangsInCall,
        Self::BlocksInCall,
        Self::RefusesCalls,
        Self::PanicsInServe,
        Self::HangsInServe,
        Self::BlocksInServe,
    ];
}

#[derive(Debug)]
pub(crate) struct BadBus {
    inner: Arc<dyn EventBus>,
    bad: Bad,
    published: AtomicU64,
    /// Set to let blocked threads go, so that the test leaves none behind.
    pub(crate) released: Arc<AtomicBool>,
}

impl BadBus {
    pub(crate) fn new(inner: Arc<dyn EventBus>, bad: Bad) -> Self {
        Self {
            inner,
            bad,
            published: AtomicU64::new(0),
            released: Arc::default(),
        }
    }

    fn is(&self, bad: Bad) -> bool {
        self.bad == bad
    }

    async fn misbehave(&self, panics: Bad, hangs: Bad) {
        assert!(!self.is(panics), "a panic on purpose");
        if self.is(hangs) {
            std::future::pending::<()>().await;
        }
    }

    fn block(&self, bad: Bad) {
        if self.is(bad) {
            block(&self.released);
        }
    }

    /// Every third event, so that some come through.
    fn now(&self) -> bool {
        self.published.fetch_add(1, Ordering::Relaxed) % 3 == 2
    }
}

fn block(released: &AtomicBool) {
    while !released.load(Ordering::Acquire) {
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[async_trait]
impl EventBus for BadBus {
    fn backend(&self) -> &str {
        "bad"
    }

    fn publisher_id(&self) -> PublisherId {
        self.inner.publisher_id()
    }

    async fn publish(&self, event: Event) -> Result<Receipt, Refused> {
        if self.is(Bad::IsSlow) {
            let wait = std::future::pending::<()>();
            let _ = tokio::time::timeout(Duration::from_millis(5), wait).await;
        }
        self.misbehave(Bad::PanicsInPublish, Bad::HangsInPublish)
            .await;
        self.block(Bad::BlocksInPublish);
        if self.is(Bad::RefusesEvents) {
            let reason = "not today".to_owned();
            return Err(Refused::new(event, PublishError::Disconnected { reason }));
        }
        if self.is(Bad::NeverDelivers) {
            return Ok(Receipt::ready(0));
        }
        self.inner.publish(event).await
    }

    fn try_publish(&self, event: Event) -> Result<Receipt, Refused<TryPublishError>> {
        let publishing = [
            Bad::PanicsInPublish,
            Bad::HangsInPublish,
            Bad::BlocksInPublish,
            Bad::RefusesEvents,
        ];
        if self.is(Bad::IsSlow) || (publishing.contains(&self.bad) && self.now()) {
            let subscription = "none".to_owned();
            return Err(Refused::new(event, TryPublishError::Full { subscription }));
        }
        if self.is(Bad::NeverDelivers) {
            return Ok(Receipt::ready(0));
        }
        self.inner.try_publish(event)
    }

    async fn publish_batch(&self, events: Vec<Event>) -> Result<Receipt, BatchRefused> {
        self.inner.publish_batch(events).await
    }

    fn publisher(&self, topic: Topic) -> Publisher {
        self.inner.publisher(topic)
    }

    async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        self.misbehave(Bad::PanicsInSubscribe, Bad::HangsInSubscribe)
            .await;
        self.block(Bad::BlocksInSubscribe);
        if self.is(Bad::RefusesSubscriptions) {
            return Err(SubscribeError::TooManySubscriptions { limit: 0 });
        }
        let inner = self.inner.subscribe(subscribe.ungated()).await?;
        if self.is(Bad::SubscribesAtLeisure) {
            let mut tick = tokio::time::interval(Duration::from_millis(1));
            while !self.released.load(Ordering::Acquire) {
                tick.tick().await;
            }
        }
        let source = BadSource {
            name: inner.name().into(),
            inner: Some(inner),
            bad: self.bad,
            taken: 0,
            held: None,
            released: Arc::clone(&self.released),
        };
        Ok(Subscription::new(
            Arc::clone(&source.name),
            &subscribe,
            Arc::default(),
            Box::new(source),
        ))
    }

    async fn connect(&self, name: Option<&str>) -> Result<Arc<dyn EventBus>, ConnectError> {
        self.misbehave(Bad::PanicsInConnect, Bad::HangsInConnect)
            .await;
        if self.is(Bad::RefusesHandles) {
            return Err(ConnectError::Closed);
        }
        let inner = self.inner.connect(name).await?;
        Ok(Arc::new(Self {
            inner,
            bad: self.bad,
            published: AtomicU64::new(0),
            released: Arc::clone(&self.released),
        }))
    }

    async fn serve(&self, service: Service) -> Result<Serving, ServeError> {
        self.misbehave(Bad::PanicsInServe, Bad::HangsInServe).await;
        self.block(Bad::BlocksInServe);
        self.inner.serve(service).await
    }

    async fn call(&self, call: Call) -> Result<Reply, CallError> {
        self.misbehave(Bad::PanicsInCall, Bad::HangsInCall).await;
        self.block(Bad::BlocksInCall);
        if self.is(Bad::RefusesCalls) {
            let service = call.service;
            return Err(CallError::Denied { service });
        }
        self.inner.call(call).await
    }

    fn stats(&self) -> Stats {
        panic!("nobody should ask")
    }

    async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.misbehave(Bad::PanicsInShutdown, Bad::HangsInShutdown)
            .await;
        self.inner.shutdown().await
    }
}

impl Drop for BadBus {
    fn drop(&mut self) {
        assert!(!self.is(Bad::PanicsInDrop), "a panic on purpose");
    }
}

struct BadSource {
    inner: Option<Subscription>,
    name: Arc<str>,
    bad: Bad,
    taken: u64,
    /// What is delivered next.
    held: Option<Item>,
    released: Arc<AtomicBool>,
}

impl BadSource {
    fn mixed(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if let Some(held) = self.held.take() {
            return Poll::Ready(Some(held));
        }
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let first = match inner.poll_item(cx) {
            Poll::Ready(Some(first)) if self.taken.is_multiple_of(4) => first,
            polled => return polled,
        };
        let Poll::Ready(Some(second)) = inner.poll_item(cx) else {
            return Poll::Ready(Some(first));
        };
        let publisher = |item: &Item| match item {
            Item::Event(event) => event.origin().map(|origin| origin.publisher),
            Item::Lagged(_) => None,
        };
        let mixes = publisher(&first) != publisher(&second);
        let (now, next) = if mixes {
            (second, first)
        } else {
            (first, second)
        };
        self.held = Some(next);
        Poll::Ready(Some(now))
    }
}

#[async_trait]
impl EventSource for BadSource {
    fn try_next(&mut self) -> Result<Item, TryRecvError> {
        match &mut self.inner {
            Some(inner) => inner.try_recv_item(),
            None => Err(TryRecvError::Closed),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.taken += 1;
        if self.bad == Bad::MixesPublishers {
            return self.mixed(cx);
        }
        if self.taken > 5 {
            match self.bad {
                Bad::PanicsInReceive => panic!("a panic on purpose"),
                Bad::EndsSubscriptions => self.inner = None,
                Bad::BlocksInReceive => block(&self.released),
                _ => {}
            }
        }
        match &mut self.inner {
            Some(inner) => inner.poll_item(cx),
            None => Poll::Ready(None),
        }
    }

    fn queued(&self) -> u64 {
        0
    }

    async fn close(&mut self) {
        self.inner = None;
    }
}
