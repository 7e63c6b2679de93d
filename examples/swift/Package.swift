// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "examples",
    platforms: [.macOS(.v14)],
    // In a package of your own: .package(url: "…/mlxterp", from: "0.1.0")
    dependencies: [.package(name: "mlxterp", path: "../..")],
    targets: [
        .executableTarget(name: "Tour", dependencies: [.product(name: "MLXTerp", package: "mlxterp")])
    ]
)
