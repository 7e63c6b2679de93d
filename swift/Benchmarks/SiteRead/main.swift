// What a site read costs in Swift: building a traced graph with reads, less building it with fewer.
//
//     swift run -c release SiteRead MODEL
import Foundation
import MLXTerp

/// The best of many, in microseconds: what the work costs when nothing else runs.
func best(_ work: () throws -> Void) rethrows -> Double {
    let clock = ContinuousClock()
    try work()
    let shortest = try (0..<200).map { _ in try clock.measure(work) }.min()!.components
    return Double(shortest.seconds) * 1e6 + Double(shortest.attoseconds) / 1e12
}

let model = try InterpretableModel(CommandLine.arguments[1])
let names = try model.sites().filter { !$0.onTouch }.map(\.name)
let batch = try Array(1000..<1128).batch(for: model)
let bare = try best { _ = try model.forward(batch) }

func traced(_ reads: Int) throws {
    let trace = try model.trace(batch)
    for name in names[..<reads] { _ = try trace.read(name) }
    _ = try trace.read("output")
}

/// By member, as a program is written: the same number of reads for each layer.
func byMember(_ times: Int) throws {
    let trace = try model.trace(batch)
    for layer in 0..<model.layerCount {
        for _ in 0..<times { _ = try trace.layers[layer].attn.output }
    }
    _ = try trace.output
}

let (none, all) = (try best { try traced(0) }, try best { try traced(names.count) })
let (once, often) = (try best { try byMember(1) }, try best { try byMember(41) })
func text(_ number: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", number) }
print("\(names.count) reads over a bare graph of \(text(bare / 1e3, 2)) ms; a trace adds \(text(none - bare, 0)) us")
print("Swift, by name\t\(text((all - none) / Double(names.count), 3))")
print("Swift, by member\t\(text((often - once) / Double(40 * model.layerCount), 3))")
