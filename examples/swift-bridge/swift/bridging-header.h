// What `cargo build -p lens-bridge` generated, in C.
#include "../../../target/swift-bridge/SwiftBridgeCore.h"
#include "../../../target/swift-bridge/lens-bridge/lens-bridge.h"
