#if canImport(SwiftUI)
import LensModel
import SwiftUI

struct LensApp: App {
    @State private var state = LensState()

    var body: some Scene {
        WindowGroup("Lens") {
            ContentView(state: state).frame(minWidth: 900, minHeight: 600)
        }
    }
}

struct ContentView: View {
    @Bindable var state: LensState
    @State private var choosing = false

    var body: some View {
        VStack(alignment: .leading, spacing: 12) {
            HStack {
                TextField("Prompt", text: $state.prompt)
                Button("Open a model…") { choosing = true }
            }
            if let loading = state.loading {
                ProgressView(value: loading)
            }
            if let failure = state.failure {
                Text(failure).foregroundStyle(.red).textSelection(.enabled)
            }
            HSplitView {
                LensTableView(table: state.table)
                VStack(alignment: .leading) {
                    NextView(candidates: state.next)
                    SteeringView(state: state)
                    AttentionView(maps: state.attention)
                }
                .padding()
                .frame(minWidth: 320)
            }
        }
        .padding()
        .fileImporter(isPresented: $choosing, allowedContentTypes: [.data, .folder]) { result in
            if case .success(let url) = result {
                Task { await state.open(url.path) }
            }
        }
    }
}

struct NextView: View {
    let candidates: [Candidate]

    var body: some View {
        ForEach(candidates, id: \.token) { candidate in
            HStack {
                Text(candidate.token).monospaced()
                Spacer()
                Text(Double(candidate.probability), format: .percent.precision(.fractionLength(1)))
            }
        }
    }
}

struct SteeringView: View {
    @Bindable var state: LensState

    var body: some View {
        GroupBox("Steering") {
            TextField("From", text: $state.from)
            TextField("To", text: $state.to)
            Slider(value: $state.strength, in: -4...4) { Text("Strength") }
            if let model = state.model {
                Stepper("Layer \(state.layer)", value: $state.layer, in: 0...(model.layerCount - 1))
            }
        }
    }
}
#endif
