// What a site read costs in Swift: building a traced graph with reads, less building it with one.
//
//     swift run -c release SiteRead MODEL
import Foundation
import MLXTerp

func median(_ work: () throws -> Void) rethrows -> Double {
    let clock = ContinuousClock()
    try work()
    let times = try (0..<60).map { _ in try clock.measure(work) }
    let middle = times.sorted()[30].components
    return Double(middle.seconds) * 1e6 + Double(middle.attoseconds) / 1e12
}

let model = try InterpretableModel(CommandLine.arguments[1])
let names = try model.sites().filter { !$0.onTouch }.map(\.name)
let batch = try Array(1000..<1128).batch(for: model)
let bare = try median { _ = try model.forward(batch) }

func traced(_ reads: Int) throws {
    let trace = try model.trace(batch)
    for name in names[..<reads] { _ = try trace.read(name) }
    _ = try trace.read("output")
}

/// By member, as a program is written: the same number of reads for each of some layers.
func byMember(_ times: Int) throws {
    let trace = try model.trace(batch)
    for layer in 0..<model.layerCount {
        for _ in 0..<times { _ = try trace.layers[layer].attn.output }
    }
    _ = try trace.output
}

let (none, all) = (try median { try traced(0) }, try median { try traced(names.count) })
let (once, often) = (try median { try byMember(1) }, try median { try byMember(41) })
print(String(format: "bare graph %.2f ms; a trace adds %.0f us", bare / 1e3, none - bare))
print(String(format: "%d reads by name add %.2f us each", names.count, (all - none) / Double(names.count)))
print(String(format: "reads by member add %.2f us each", (often - once) / Double(40 * model.layerCount)))
