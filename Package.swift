// swift-tools-version: 6.0
import PackageDescription

// The library itself: a framework for Apple's platforms where one was built (`cargo xtask xcframework`), else the
// libmlxterp that pkg-config finds (`cargo xtask install --prefix DIR`, then PKG_CONFIG_PATH=DIR/lib/pkgconfig).
let library: Target =
    if let framework = Context.environment["MLXTERP_XCFRAMEWORK"] {
        .binaryTarget(name: "CMLXTerp", path: framework)
    } else {
        .systemLibrary(name: "CMLXTerp", path: "swift/CMLXTerp", pkgConfig: "mlxterp")
    }

let package = Package(
    name: "mlxterp",
    platforms: [.macOS(.v14)],
    products: [.library(name: "MLXTerp", targets: ["MLXTerp"])],
    targets: [
        library,
        .target(name: "MLXTerp", dependencies: ["CMLXTerp"], path: "swift/MLXTerp"),
        .executableTarget(name: "SiteRead", dependencies: ["MLXTerp"], path: "swift/Benchmarks/SiteRead"),
        .testTarget(name: "MLXTerpTests", dependencies: ["MLXTerp"], path: "swift/Tests/MLXTerpTests"),
    ]
)
